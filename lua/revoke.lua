-- Tells all nodes that tokens are revoked.
--
-- KEYS[1] nodes  sorted set of nodes; named here for the channels too, which lie in its slot: the shard of `all`
-- ARGV[1] line   what they are told: revoked - - - {"id":"user:alice","before":…,"expires_at":…} (router/revoke.py)
--
-- Published: to the node channels <prefix>:{s}:node:<node>, and to <prefix>:{s}:all for nodes that are not listed yet.
-- Returns the nodes that were told: all that are listed, for one whose heartbeat is late may hear it all the same.
-- Errors: whatever Redis has against the caller.
-- Cost: O(nodes).
--
-- redis-cli --eval lua/revoke.lua 'push:{0}:nodes' , 'revoked - - - {"id":"user:alice","before":1795362662,"expires_at":1795449127}'
local nodes = KEYS[1]
local line = ARGV[1]

local base = string.match(nodes, '^(.*:)')
local told = redis.call('ZRANGE', nodes, 0, -1)
for _, node in ipairs(told) do
  redis.call('SPUBLISH', base .. 'node:' .. node, line)
end
redis.call('SPUBLISH', base .. 'all', line)
return told
