-- Looks through some of those who are said to be online for who has no route to a node any more, and is not looked after yet.
--
-- It finds nothing, but where Redis has forgotten writes, or where keys were removed or broken by hand.
--
-- KEYS[1] lease    string: "<owner> <token>"
-- KEYS[2] nodes    sorted set: node → expiry, Unix ms, of its heartbeat; those that have died are looked after by node_gone.lua
-- KEYS[3] online   hash: user → Unix ms since when
-- KEYS[4] leaving  sorted set: user → Unix ms at which dispatch looks whether the user is back
-- ARGV[1] held     what the lease must say
-- ARGV[2] cursor   0, or what a call has returned
-- ARGV[3] most     about how many users to look at
-- ARGV[4] grace    in how long they are looked after, ms
--
-- Read: the users' routes <prefix>:{s}:route:<user>, of the same slot.
-- Returns {cursor, found}: where to go on, '0' at the end; how many are looked after now.
-- Errors: FENCED when the lease is not the caller's; whatever Redis has against the caller. Cost: O(users × nodes of a user).
--
-- redis-cli --eval lua/online_check.lua 'push:{0}:lease:dispatch' 'push:{0}:nodes' 'push:{0}:online' 'push:{0}:leaving' , "$(redis-cli get 'push:{0}:lease:dispatch')" 0 500 5000
local lease, nodes, online, leaving = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local held, cursor, most, grace = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])

if redis.call('GET', lease) ~= held then
  return redis.error_reply('FENCED the lease is not held by ' .. held)
end

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local after_now = string.format('(%.0f', now)
local base = string.match(nodes, '^(.*:)')

local listed = {}
for _, node in ipairs(redis.call('ZRANGE', nodes, 0, -1)) do
  listed[node] = true
end

local function is_there(user)
  local routed = redis.pcall('ZRANGEBYSCORE', base .. 'route:' .. user, after_now, '+inf')
  -- A key of another type routes nowhere. Whatever else Redis has against the caller says nothing of the user.
  if routed.err and not string.find(tostring(routed.err), 'WRONGTYPE', 1, true) then
    error(routed)
  end
  for _, node in ipairs(routed.err and {} or routed) do
    if listed[node] then
      return true
    end
  end
  return false
end

local scanned = redis.call('HSCAN', online, cursor, 'COUNT', most)
-- It changes nothing. But Redis allows it when memory is full, and what is behind it is then allowed too.
redis.call('PERSIST', online)
local found = 0
for n = 1, #scanned[2], 2 do
  local user = scanned[2][n]
  if not is_there(user) then
    found = found + redis.call('ZADD', leaving, 'NX', string.format('%.0f', now + grace), user)
  end
end
return {scanned[1], found}
