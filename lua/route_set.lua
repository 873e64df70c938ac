-- Writes whether a node holds sessions of some users, as the node knows it now, and tells what a session needs to start.
--
-- KEYS[1…n]     route  sorted set of each user: node → expiry, Unix ms
-- KEYS[n+1…2n]  seq    hash of the same users' targets: handed, the head
-- ARGV[1]       node   node id
-- ARGV[2]       ttl    life of a route, ms
-- ARGV[3…n+2]   held   for each user '1' when the node holds a session, '0' when it holds none
--
-- Returns for each user two values, flat: was_live (1 when an unexpired route to this node stood there before, else 0) and
-- the head ('' where there is no counter). Expired routes, of any node, are removed on the way.
-- Errors: ROUTES when the numbers of keys and arguments do not fit together. Cost: O(users × log(nodes of a user)).
--
-- redis-cli --eval lua/route_set.lua 'push:{0}:route:alice' 'push:{0}:seq:user:alice' , edge-1.k3f9 60000 1
local node, ttl = ARGV[1], tonumber(ARGV[2])
local FIRST_HELD = 3
local n_users = #KEYS / 2

if #ARGV ~= n_users + FIRST_HELD - 1 or not ttl then
  return redis.error_reply('ROUTES takes a route and a seq key a user, then node, ttl and a held a user')
end

-- Redis' clock, not the caller's: dispatch compares with the same one.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
-- A score of 13 digits would be written as 1.7e+12 by `..` and tostring.
local now_text = string.format('%.0f', now)
local expiry_text = string.format('%.0f', now + ttl)

local reply = {}
for n = 1, n_users do
  local route, seq, held = KEYS[n], KEYS[n_users + n], ARGV[FIRST_HELD + n - 1]
  -- A write that Redis allows when memory is full comes first, so that the ZADD behind it is allowed too.
  redis.call('ZREMRANGEBYSCORE', route, '-inf', now_text)
  reply[#reply + 1] = redis.call('ZSCORE', route, node) and 1 or 0
  if held == '1' then
    redis.call('ZADD', route, expiry_text, node)
  else
    redis.call('ZREM', route, node)
  end
  local latest = redis.call('ZREVRANGE', route, 0, 0, 'WITHSCORES')
  if latest[2] then
    redis.call('PEXPIREAT', route, string.format('%.0f', tonumber(latest[2])))
  end
  reply[#reply + 1] = redis.call('HGET', seq, 'handed') or ''
end
return reply
