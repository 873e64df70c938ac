-- Takes a person who is to be erased out of presence, once no live route is left.
--
-- KEYS[1] nodes    sorted set: node → expiry, Unix ms, of its heartbeat
-- KEYS[2] online   hash: user → Unix ms since when
-- KEYS[3] leaving  sorted set: user → Unix ms at which dispatch looks whether the user is back
-- KEYS[4] events   stream, capped
-- KEYS[5] route    sorted set of the user: node → expiry, Unix ms
-- ARGV[1] user     who
-- ARGV[2] max      about how many events are kept
--
-- Taken from too: the hashes <prefix>:{s}:on:<node> of all `nodes`, of the same slot. Where online was said, offline is: whoever
-- watches learns that the user is gone, before the caller removes what the stream says of the person.
-- Returns how many entries were removed; 0 where a live route is left.
-- Errors: whatever Redis has against the caller; a key of another type holds nobody. Cost: O(nodes).
--
-- redis-cli --eval lua/presence_forget.lua 'push:{0}:nodes' 'push:{0}:online' 'push:{0}:leaving' 'push:{0}:events' 'push:{0}:route:alice' , alice 100000
local nodes, online, leaving, events, route = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local user, max = ARGV[1], ARGV[2]

-- Returns the answer, or `otherwise` where there is none or the key is of another type.
local function attempt(otherwise, ...)
  local answer = redis.pcall(...)
  local err = type(answer) == 'table' and answer.err
  if err and not string.find(tostring(err), 'WRONGTYPE', 1, true) then
    error(answer)
  end
  return not err and answer or otherwise
end

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
for _, node in ipairs(attempt({}, 'ZRANGEBYSCORE', route, string.format('(%.0f', now), '+inf')) do
  if tonumber(attempt(0, 'ZSCORE', nodes, node)) > now then
    return 0
  end
end

-- First, because Redis allows it when memory is full, and the XADD behind it is then allowed too.
local removed = attempt(0, 'ZREM', leaving, user)
local base = string.match(nodes, '^(.*:)')
for _, node in ipairs(attempt({}, 'ZRANGE', nodes, 0, -1)) do
  removed = removed + attempt(0, 'HDEL', base .. 'on:' .. node, user)
end
local since = attempt(nil, 'HGET', online, user)
if since then
  removed = removed + redis.call('HDEL', online, user)
  attempt(nil, 'XADD', events, 'MAXLEN', '~', max, '*', 'event', 'offline', 'user', user, 'since', since)
end
return removed
