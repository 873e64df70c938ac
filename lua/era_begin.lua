-- Begins an era of a shard's heads where Redis is not the one that the present era began with: it has restarted or failed over
-- since, and may have forgotten writes. A head of another era counts for nothing.
--
-- KEYS[1] lease  string: "<owner> <token>"
-- KEYS[2] era    hash: server (Redis' replication id when the era began), era (number), recovered (the replication id for
--                which everything stored lately has been appended anew)
-- ARGV[1] held   what the lease must say
--
-- Returns {server, due}: this Redis' replication id ('-' where INFO is not to be had), and 1 when the shard has to be
-- recovered on it, else 0.
-- Errors: FENCED when the lease is not the caller's. Cost: O(1).
--
-- redis-cli --eval lua/era_begin.lua 'push:{0}:lease:collect' 'push:{0}:era' , "$(redis-cli get 'push:{0}:lease:collect')"
local lease, era = KEYS[1], KEYS[2]
local held = ARGV[1]

if redis.call('GET', lease) ~= held then
  return redis.error_reply('FENCED the lease is not held by ' .. held)
end
local info = redis.pcall('INFO', 'replication')
local server = type(info) == 'string' and string.match(info, 'master_replid:(%w+)') or '-'
-- A write that Redis allows when memory is full comes first, so that the ones behind it are allowed too.
redis.call('HDEL', era, '')
if redis.call('HGET', era, 'server') ~= server or redis.call('HEXISTS', era, 'era') == 0 then
  redis.call('HSET', era, 'server', server)
  redis.call('HINCRBY', era, 'era', 1)
end
return {server, redis.call('HGET', era, 'recovered') == server and 0 or 1}
