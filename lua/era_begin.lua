-- Begins an era of a shard's heads, where Redis is not what the last era was begun on: it has restarted or failed over since,
-- there or there and back, and may have forgotten writes. A head of another era counts for nothing.
--
-- KEYS[1] lease        string: "<owner> <token>"
-- KEYS[2] era          hash: server (Redis' replication id when the era began), era (its number), recovered (the number of the
--                      era for which everything stored lately has been appended anew)
-- ARGV[1] held         what the lease must say
-- ARGV[2] last_server  the replication id that MongoDB has for the shard's last era, or ''
-- ARGV[3] last_era     the number of that era, or 0
--
-- Returns {server, era, due}: this Redis' replication id ('-' where INFO is not to be had), the number of the present era, and 1
-- when the shard has to be recovered in it, else 0.
-- Errors: FENCED when the lease is not the caller's. Cost: O(1).
--
-- redis-cli --eval lua/era_begin.lua 'push:{0}:lease:collect' 'push:{0}:era' , "$(redis-cli get 'push:{0}:lease:collect')" '' 0
local lease, era_key = KEYS[1], KEYS[2]
local held, last_server, last_era = ARGV[1], ARGV[2], tonumber(ARGV[3])

if redis.call('GET', lease) ~= held then
  return redis.error_reply('FENCED the lease is not held by ' .. held)
end
local info = redis.pcall('INFO', 'replication')
local name = type(info) == 'string' and string.match(info, 'master_replid:(%w+)') or '-'
-- A write that Redis allows when memory is full comes first, so that the ones behind it are allowed too.
redis.call('HDEL', era_key, '')
local server, era, recovered = unpack(redis.call('HMGET', era_key, 'server', 'era', 'recovered'))
era = tonumber(era) or 0
if server ~= name or last_server ~= name or era ~= last_era then
  era = math.max(era, last_era) + 1
  redis.call('HSET', era_key, 'server', name, 'era', string.format('%.0f', era))
end
return {name, era, tonumber(recovered) == era and 0 or 1}
