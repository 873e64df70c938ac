-- Takes a node out that ends in order; one that dies lapses by itself.
--
-- KEYS[1]  nodes  sorted set: node → expiry, Unix ms, of its heartbeat
-- KEYS[2]  info   hash of the node
-- KEYS[3]  on     hash of the node: user → devices; gone with the last user, as it should be by now
-- ARGV[1]  node   node id
--
-- Returns 1 when the node was listed before, else 0. Should users stand in `on` still, it stays, as one that has just died:
-- dispatch sees to them (node_gone.lua).
-- Errors: none of its own. Cost: O(log(nodes)).
--
-- redis-cli --eval lua/node_leave.lua 'push:{0}:nodes' 'push:{0}:info:edge-1.k3f9' 'push:{0}:on:edge-1.k3f9' , edge-1.k3f9
local nodes, info, on = KEYS[1], KEYS[2], KEYS[3]
local node = ARGV[1]

redis.call('DEL', info)
if redis.call('EXISTS', on) == 0 then
  return redis.call('ZREM', nodes, node)
end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
return 1 - redis.call('ZADD', nodes, string.format('%.0f', now), node)
