-- Notes that a shard has been recovered in an era: everything stored lately is in `out` again.
--
-- KEYS[1] lease  string: "<owner> <token>"
-- KEYS[2] era    hash: era, recovered
-- ARGV[1] held   what the lease must say
-- ARGV[2] era    the number that era_begin.lua gave when the recovery began
--
-- Returns 1, or 0 when another era has begun meanwhile, so that the recovery has to be done again.
-- Errors: FENCED when the lease is not the caller's. Cost: O(1).
--
-- redis-cli --eval lua/era_confirm.lua 'push:{0}:lease:collect' 'push:{0}:era' , "$(redis-cli get 'push:{0}:lease:collect')" "$(redis-cli hget 'push:{0}:era' era)"
local lease, era_key = KEYS[1], KEYS[2]
local held, era = ARGV[1], ARGV[2]

if redis.call('GET', lease) ~= held then
  return redis.error_reply('FENCED the lease is not held by ' .. held)
end
-- A write that Redis allows when memory is full comes first, so that the one behind it is allowed too.
redis.call('HDEL', era_key, '')
if redis.call('HGET', era_key, 'era') ~= era then
  return 0
end
redis.call('HSET', era_key, 'recovered', era)
return 1
