-- Takes a lease that nobody holds, and tells who holds it.
--
-- KEYS[1] lease     string: "<owner> <token>", expires
-- ARGV[1] owner     name of the process that asks
-- ARGV[2] lease_ms  life of the lease in milliseconds
--
-- Returns {1, "<owner> <token>"} when it is now the caller's, else {0, "<owner> <token>"} of the holder. The token is the
-- Redis time in microseconds: every taking has its own, so a script can tell a holder from whoever held it before.
-- Errors: none. Cost: O(1).
--
-- redis-cli --eval lua/lease_take.lua 'push:{0}:lease:collect' , me 5000
local lease = KEYS[1]
local owner, lease_ms = ARGV[1], ARGV[2]

local holder = redis.call('GET', lease)
if holder then
  return {0, holder}
end
local time = redis.call('TIME')
local value = owner .. ' ' .. string.format('%.0f', time[1] * 1000000 + time[2])
-- A write that Redis allows when memory is full, so that the SET behind it is allowed too: owners must come and go then.
redis.call('PERSIST', lease)
redis.call('SET', lease, value, 'PX', lease_ms)
return {1, value}
