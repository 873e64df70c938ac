-- Says that a node is alive, and what people may want to know of it.
--
-- KEYS[1]   nodes  sorted set: node → expiry, Unix ms, of its heartbeat
-- KEYS[2]   info   hash of the node
-- ARGV[1]   node   node id
-- ARGV[2]   ttl    how long it counts as alive, ms
-- ARGV[3…]         field and value of `info`, in turn
--
-- Returns 1 when the node counted as alive before; 0 when its heartbeat had lapsed, such nodes stay for dispatch (node_gone.lua);
-- -1 when it was not listed: it is new, or dispatch has said that it is gone, or Redis has forgotten it.
-- Errors: none of its own. Cost: O(log(nodes) + fields).
--
-- redis-cli --eval lua/node_beat.lua 'push:{0}:nodes' 'push:{0}:info:edge-1.k3f9' , edge-1.k3f9 7000 state live
local nodes, info = KEYS[1], KEYS[2]
local node, ttl = ARGV[1], tonumber(ARGV[2])
local FIRST_FIELD = 3

-- Redis' clock, not the caller's: dispatch compares with the same one.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

-- It changes nothing. But Redis allows it when memory is full, and what is behind it is then allowed too.
redis.call('PERSIST', nodes)
local expiry = redis.call('ZSCORE', nodes, node)
redis.call('ZADD', nodes, string.format('%.0f', now + ttl), node)
if ARGV[FIRST_FIELD] then
  redis.call('HSET', info, unpack(ARGV, FIRST_FIELD))
  redis.call('PEXPIRE', info, ttl)
end
return not expiry and -1 or tonumber(expiry) > now and 1 or 0
