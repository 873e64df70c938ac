-- Gives a lease back, so that a standby need not wait for it to lapse.
--
-- KEYS[1] lease     string: "<owner> <token>", expires
-- ARGV[1] held      the value that lease_take.lua returned
--
-- Returns 1 when it was the caller's, 0 when it was not, and then nothing has changed.
-- Errors: none. Cost: O(1).
--
-- redis-cli --eval lua/lease_release.lua 'push:{0}:lease:collect' , 'me 1732262400123456'
local lease = KEYS[1]
local held = ARGV[1]

if redis.call('GET', lease) ~= held then
  return 0
end
return redis.call('DEL', lease)
