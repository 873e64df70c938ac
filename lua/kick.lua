-- Tells the nodes that hold a user to close sessions of the user.
--
-- KEYS[1] nodes  sorted set of nodes; named here for the node channels, which lie in its slot
-- KEYS[2] route  sorted set of the user: node → expiry, Unix ms
-- ARGV[1] line   what they are told: kicked - - - {"user":…,"code":4502,"reason":…}; others: router/notices.py
--
-- Published: to the node channels <prefix>:{s}:node:<node>.
-- Returns the nodes that were told, those of all unexpired routes, by expiry. One whose subscription is lost just now does not
-- hear of it, and its route stays.
-- Errors: whatever Redis has against the caller, or the route where it is no sorted set.
-- Cost: O(nodes of the user).
--
-- redis-cli --eval lua/kick.lua 'push:{0}:nodes' 'push:{0}:route:alice' , 'kicked - - - {"user":"alice","code":4502,"reason":"by hand"}'
local nodes, route = KEYS[1], KEYS[2]
local line = ARGV[1]

-- Redis' clock, not the caller's: the edges' routes are written by it.
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))

local base = string.match(nodes, '^(.*:)')
local told = redis.call('ZRANGEBYSCORE', route, '(' .. now, '+inf')
for _, node in ipairs(told) do
  redis.call('SPUBLISH', base .. 'node:' .. node, line)
end
return told
