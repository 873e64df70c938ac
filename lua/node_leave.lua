-- Takes a node out that ends in order; one that dies lapses by itself.
--
-- KEYS[1]  nodes  sorted set: node → expiry, Unix ms, of its heartbeat
-- KEYS[2]  info   hash of the node
-- ARGV[1]  node   node id
--
-- Returns 1 when the node counted as alive before, else 0.
-- Errors: none of its own. Cost: O(log(nodes)).
--
-- redis-cli --eval lua/node_leave.lua 'push:{0}:nodes' 'push:{0}:info:edge-1.k3f9' , edge-1.k3f9
local nodes, info = KEYS[1], KEYS[2]
local node = ARGV[1]

redis.call('DEL', info)
return redis.call('ZREM', nodes, node)
