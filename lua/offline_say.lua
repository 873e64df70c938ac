-- Says offline of those whose time has come and who are not back.
--
-- KEYS[1] lease    string: "<owner> <token>"
-- KEYS[2] nodes    sorted set: node → expiry, Unix ms, of its heartbeat
-- KEYS[3] online   hash: user → Unix ms since when
-- KEYS[4] leaving  sorted set: user → Unix ms at which dispatch looks whether the user is back
-- KEYS[5] events   stream, capped
-- ARGV[1] held     what the lease must say
-- ARGV[2] most     most users in this call, 7,900 at most
-- ARGV[3] max      about how many events are kept
--
-- Read: the users' routes <prefix>:{s}:route:<user>, of the same slot. A user is back while an unexpired one leads to a node whose
-- heartbeat has not lapsed. Of whom offline is said is taken out of the hashes <prefix>:{s}:on:<node> of all `nodes`: should one
-- only have been frozen, its next renewal finds that and says online again; and what a failover has brought back there goes too.
-- Returns {looked_at, said}: how many users were due, and of how many of them offline was said.
-- Errors: FENCED when the lease is not the caller's; whatever Redis has against the caller. Cost: O(users × (log(leaving) + nodes)).
--
-- redis-cli --eval lua/offline_say.lua 'push:{0}:lease:dispatch' 'push:{0}:nodes' 'push:{0}:online' 'push:{0}:leaving' 'push:{0}:events' , "$(redis-cli get 'push:{0}:lease:dispatch')" 500 100000
local lease, nodes, online, leaving, events = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local held, most, max = ARGV[1], ARGV[2], ARGV[3]

if redis.call('GET', lease) ~= held then
  return redis.error_reply('FENCED the lease is not held by ' .. held)
end

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local now_text = string.format('%.0f', now)
local due = redis.call('ZRANGEBYSCORE', leaving, '-inf', now_text, 'LIMIT', 0, most)
if not due[1] then
  return {0, 0}
end

-- Where one of these is of another type, nothing is done until it is mended.
redis.call('XLEN', events)
local since = redis.call('HMGET', online, unpack(due))

local base = string.match(nodes, '^(.*:)')
local alive = {}
local function is_alive(node)
  if alive[node] == nil then
    alive[node] = tonumber(redis.call('ZSCORE', nodes, node) or 0) > now
  end
  return alive[node]
end

local function is_back(user)
  local routed = redis.pcall('ZRANGEBYSCORE', base .. 'route:' .. user, '(' .. now_text, '+inf')
  -- A key of another type routes nowhere. Whatever else Redis has against the caller says nothing of the user.
  if routed.err and not string.find(tostring(routed.err), 'WRONGTYPE', 1, true) then
    error(routed)
  end
  for _, node in ipairs(routed.err and {} or routed) do
    if is_alive(node) then
      return true
    end
  end
  return false
end

local back = {}
for n, user in ipairs(due) do
  back[n] = is_back(user)
end

-- Redis allows this when memory is full, and what is behind it is then allowed too.
redis.call('ZREM', leaving, unpack(due))
local offline = {}
for n, user in ipairs(due) do
  if since[n] and not back[n] then
    offline[#offline + 1] = user
    redis.call('XADD', events, 'MAXLEN', '~', max, '*', 'event', 'offline', 'user', user, 'since', since[n])
  end
end
if offline[1] then
  redis.call('HDEL', online, unpack(offline))
  for _, node in ipairs(redis.call('ZRANGE', nodes, 0, -1)) do
    redis.pcall('HDEL', base .. 'on:' .. node, unpack(offline))
  end
end
return {#due, #offline}
