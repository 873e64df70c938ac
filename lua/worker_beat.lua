-- Says that a worker lives, and tells who else does.
--
-- KEYS[1]  workers  sorted set: worker → expiry, Unix ms
-- ARGV[1]  worker   name of the process that asks
-- ARGV[2]  ttl      how long it counts as alive, ms
--
-- Returns the names of all that live, the caller's among them. Those that have lapsed are removed.
-- Errors: none of its own. Cost: O(workers).
--
-- redis-cli --eval lua/worker_beat.lua 'push:{0}:workers:collect' , me 5000
local workers = KEYS[1]
local worker, ttl = ARGV[1], tonumber(ARGV[2])

-- Redis' clock, not the caller's: all are compared with the same one.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

-- A write that Redis allows when memory is full, so that the ZADD behind it is allowed too.
redis.call('ZREMRANGEBYSCORE', workers, '-inf', string.format('%.0f', now))
redis.call('ZADD', workers, string.format('%.0f', now + ttl), worker)
return redis.call('ZRANGE', workers, 0, -1)
