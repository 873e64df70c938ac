-- Sees to those who were on a node that has died without a word: some of them at a time, of one node at a time.
--
-- KEYS[1] lease    string: "<owner> <token>"
-- KEYS[2] nodes    sorted set: node → expiry, Unix ms, of its heartbeat
-- KEYS[3] leaving  sorted set: user → Unix ms at which dispatch looks whether the user is back
-- KEYS[4] events   stream, capped
-- ARGV[1] held     what the lease must say
-- ARGV[2] grace    for how long a heartbeat must have lapsed, ms
-- ARGV[3] most     most users in this call, 3,900 at most
-- ARGV[4] max      about how many events are kept
--
-- Taken from: the dead node's hash <prefix>:{s}:on:<node>, of the same slot. Who was there is looked after at once, by
-- offline_say.lua. The node's routes stay until they expire: should it only have been frozen, it goes on from there.
-- Returns {node, users, gone}: the node that was seen to, '' for none; how many users were taken; 1 when those were the last of
-- them, so that the node is out of `nodes` and `gone` is said, else 0.
-- Errors: FENCED when the lease is not the caller's; whatever Redis has against the caller. Cost: O(users × log(leaving)).
--
-- redis-cli --eval lua/node_gone.lua 'push:{0}:lease:dispatch' 'push:{0}:nodes' 'push:{0}:leaving' 'push:{0}:events' , "$(redis-cli get 'push:{0}:lease:dispatch')" 5000 500 100000
local lease, nodes, leaving, events = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local held, grace, most, max = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]

if redis.call('GET', lease) ~= held then
  return redis.error_reply('FENCED the lease is not held by ' .. held)
end

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local node = redis.call('ZRANGEBYSCORE', nodes, '-inf', string.format('%.0f', now - grace), 'LIMIT', 0, 1)[1]
if not node then
  return {'', 0, 0}
end

-- Where one of these is of another type, nothing is done until it is mended.
redis.call('ZCARD', leaving)
redis.call('XLEN', events)

local on = string.match(nodes, '^(.*:)') .. 'on:' .. node
local users = redis.pcall('HRANDFIELD', on, most)
if users.err and not string.find(tostring(users.err), 'WRONGTYPE', 1, true) then
  error(users)
elseif users.err then
  -- Of another type, so nobody of ours stands in it; the rest of the shard does not wait for that.
  redis.call('DEL', on)
  users = {}
end
if users[1] then
  -- Redis allows this when memory is full, and what is behind it is then allowed too.
  redis.call('HDEL', on, unpack(users))
  local due = {}
  for n, user in ipairs(users) do
    due[2 * n - 1], due[2 * n] = string.format('%.0f', now), user
  end
  redis.call('ZADD', leaving, 'LT', unpack(due))
end
if redis.call('EXISTS', on) == 1 then
  return {node, #users, 0}
end
redis.call('ZREM', nodes, node)
redis.call('XADD', events, 'MAXLEN', '~', max, '*', 'event', 'gone', 'node', node)
return {node, #users, 1}
