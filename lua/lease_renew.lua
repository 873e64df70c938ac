-- Lengthens a lease that the caller still holds.
--
-- KEYS[1] lease     string: "<owner> <token>", expires
-- ARGV[1] held      the value that lease_take.lua returned
-- ARGV[2] lease_ms  life of the lease from now, in milliseconds
--
-- Returns 1 when it is still the caller's, 0 when it has lapsed or belongs to another.
-- Errors: none. Cost: O(1).
--
-- redis-cli --eval lua/lease_renew.lua 'push:{0}:lease:collect' , 'me 1732262400123456' 5000
local lease = KEYS[1]
local held, lease_ms = ARGV[1], ARGV[2]

if redis.call('GET', lease) ~= held then
  return 0
end
return redis.call('PEXPIRE', lease, lease_ms)
