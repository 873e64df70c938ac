-- Writes whether a node holds sessions of some users, as the node knows it now, and tells what a session needs to start.
-- To the other nodes of a user it tells which of the user's devices are alive here: an older session there is to end.
-- Who had been said to be offline is said to be online; who has lost the last live route is on the way to be said offline.
--
-- KEYS[1]         era      hash: server, era
-- KEYS[2]         nodes    sorted set: node → expiry, Unix ms, of its heartbeat
-- KEYS[3]         online   hash: user → Unix ms since when
-- KEYS[4]         on       hash of the node: user → devices
-- KEYS[5]         leaving  sorted set: user → Unix ms at which dispatch looks whether the user is back
-- KEYS[6]         events   stream
-- KEYS[7…n+6]     route    sorted set of each user: node → expiry, Unix ms
-- KEYS[n+7…2n+6]  seq      hash of the same users' targets: handed (the head), era
-- ARGV[1]         node     node id
-- ARGV[2]         ttl      life of a route, ms
-- ARGV[3]         grace    how long a user may be without a live route before it counts, ms
-- ARGV[4]         max      about how many events are kept
-- ARGV[5…n+4]     held     for each user '1' when the node holds a session, '0' when it holds none
-- ARGV[n+5…2n+4]  come     for each user the devices whose sessions have shown that they are alive, mostly '': JSON objects (user,
--                          device, session) without their closing brace, one a line
-- ARGV[2n+5…3n+4] devices  for each user the devices that have a session on the node, comma-separated
--
-- Published: to the node channels <prefix>:{s}:node:<node> of the era's slot, `replaced - - - <object with at_us>`.
-- Returns at_us, the time of this call in µs, by which such sessions are ordered; the number of the era ('' where there is none:
-- Redis has restarted or failed over, and collect has not begun another one yet); then for each user two values, flat: was_live
-- (1 when an unexpired route to this node stood there before, else 0) and the head, 1 to 16 digits ('' where there is no counter
-- of this era: MongoDB knows then); or, where one of the user's keys is not what it should be, -1 and what is wrong: nobody is
-- replaced then. The other users are served all the same. Expired routes, of any node, are removed on the way. Where a key of
-- presence (the third to the sixth) is not what it should be, routes are written all the same, and presence is not.
-- Errors: ROUTES when the numbers of keys and arguments do not fit together; whatever Redis has against the caller.
-- Cost: O(users × log(nodes of a user) + devices × nodes of their users).
--
-- redis-cli --eval lua/route_set.lua 'push:{0}:era' 'push:{0}:nodes' 'push:{0}:online' 'push:{0}:on:edge-1.k3f9' 'push:{0}:leaving' 'push:{0}:events' 'push:{0}:route:alice' 'push:{0}:seq:user:alice' , edge-1.k3f9 60000 5000 100000 1 '' phone
local node, ttl, grace, max = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local era_key, nodes, online, on, leaving, events = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local FIRST_USER, FIRST_HELD = 7, 5
local HEAD_MAX_DIGITS = 16
-- unpack fails at 8,000 values, of which `on` takes two a user.
local MAX_USERS = 3900
local n_users = (#KEYS - FIRST_USER + 1) / 2
local first_come = FIRST_HELD + n_users
local first_devices = first_come + n_users

if #ARGV ~= 3 * n_users + FIRST_HELD - 1 or n_users > MAX_USERS or not ttl or not grace then
  return redis.error_reply(
    'ROUTES takes six keys, then a route and a seq key a user, 3900 users at most, then node, ttl, grace, max, '
      .. 'and a held, a come and devices a user'
  )
end

-- Redis' clock, not the caller's: dispatch compares with the same one.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
-- A score of 13 digits would be written as 1.7e+12 by `..` and tostring.
local now_text = string.format('%.0f', now)
local expiry_text = string.format('%.0f', now + ttl)
local due_text = string.format('%.0f', now + grace)
local at_us = tonumber(time[1]) * 1000000 + tonumber(time[2])
local at_text = string.format('%.0f', at_us)

-- Tells what is wrong when a key is of another type, which is its user's own trouble. Anything else that Redis refuses for
-- would go for every user.
local function wrong_type(answer)
  local err = type(answer) == 'table' and answer.err and tostring(answer.err)
  if not err then
    return nil
  end
  if not string.find(err, 'WRONGTYPE', 1, true) then
    error(answer)
  end
  return err
end

-- Writes one route. Returns whether it stood there before, or nil; what is wrong, or nil; and, where this node holds no session,
-- whether any other route is left.
local function write(route, held)
  -- A write that Redis allows when memory is full comes first, so that the ZADD behind it is allowed too.
  local err = wrong_type(redis.pcall('ZREMRANGEBYSCORE', route, '-inf', now_text))
  if err then
    return nil, route .. ': ' .. err
  end
  local was_live
  if held == '1' then
    was_live = 1 - redis.call('ZADD', route, expiry_text, node)
    -- A renewal, as most are: no route there lives longer. It sets nothing on a key without an expiry, a new one that is.
    if redis.call('PEXPIREAT', route, expiry_text, 'GT') == 1 then
      return was_live
    end
  else
    was_live = redis.call('ZREM', route, node)
  end
  local latest = redis.call('ZREVRANGE', route, 0, 0, 'WITHSCORES')
  if latest[2] then
    redis.call('PEXPIREAT', route, string.format('%.0f', tonumber(latest[2])))
  end
  return was_live, nil, latest[1] ~= nil
end

-- Names this Redis and its history: a restart and a failover each bring a new name ('-' where INFO is not to be had).
local function server_name()
  local info = redis.pcall('INFO', 'replication')
  return type(info) == 'string' and string.match(info, 'master_replid:(%w+)') or '-'
end

-- Does what is to be done to a key of presence. Returns the answer, or nil where the key is of another type.
local function attempt(...)
  local answer = redis.pcall(...)
  return not wrong_type(answer) and answer or nil
end

-- Node → whether its heartbeat has not lapsed.
local alive = {}
local function is_alive(other)
  if alive[other] == nil then
    alive[other] = tonumber(attempt('ZSCORE', nodes, other) or 0) > now
  end
  return alive[other]
end

-- Tells whether any route of a user leads to a node that lives; those that have expired are gone by now.
local function has_live(route)
  for _, other in ipairs(redis.call('ZRANGE', route, 0, -1)) do
    if is_alive(other) then
      return true
    end
  end
  return false
end

-- Users with a session here, and their devices; those whose route had lapsed, if there was one; users without a session; of these,
-- each without a live route, behind when that is looked at again.
local here, devices_here, new, away, lost = {}, {}, {}, {}, {}
local id_begins = #string.match(era_key, '^(.*:)') + #'route:' + 1

local function note_presence(route, held, devices, was_live, err, left)
  local user = string.sub(route, id_begins)
  if held ~= '1' then
    away[#away + 1] = user
    if not err and not (left and has_live(route)) then
      lost[#lost + 1] = due_text
      lost[#lost + 1] = user
    end
  elseif not err then
    here[#here + 1] = user
    devices_here[#here] = devices
    if was_live == 0 then
      new[user] = true
    end
  end
end

-- Says online of those of whom it has not been said, in the step in which it is noted.
local function say_online(users)
  local since, fresh, said = attempt('HMGET', online, unpack(users)) or {}, {}, {}
  for n, user in ipairs(users) do
    if since[n] == false and not said[user] then
      said[user] = true
      fresh[#fresh + 1] = user
      fresh[#fresh + 1] = now_text
    end
  end
  if fresh[1] then
    redis.call('HSET', online, unpack(fresh))
    for n = 1, #fresh, 2 do
      attempt('XADD', events, '*', 'event', 'online', 'user', fresh[n], 'node', node)
    end
    attempt('XTRIM', events, 'MAXLEN', '~', max)
  end
end

-- Writes who is here. Where a route has stood all along, what `on` says was written with all the rest, and dispatch takes it out
-- when it says offline: then nothing else needs a look, as in most renewals. Unless `online` has fewer than are here: somebody has
-- removed it.
local function write_here()
  local was, changed, flat = attempt('HMGET', on, unpack(here)) or {}, {}, {}
  local doubtful = (attempt('HLEN', online) or 0) < (attempt('HLEN', on) or 0)
  for n, user in ipairs(here) do
    if doubtful or new[user] or was[n] ~= devices_here[n] then
      changed[#changed + 1] = user
      flat[#flat + 1] = user
      flat[#flat + 1] = devices_here[n]
    end
  end
  if changed[1] then
    attempt('HSET', on, unpack(flat))
    -- Dispatch finds by it who was here, should this node die before its first heartbeat.
    attempt('ZADD', nodes, 'NX', now_text, node)
    attempt('ZREM', leaving, unpack(changed))
    say_online(changed)
  end
end

local function write_presence()
  if away[1] then
    attempt('HDEL', on, unpack(away))
  end
  if lost[1] then
    -- Who is on the way already, as this call was made before, goes on from there.
    attempt('ZADD', leaving, 'NX', unpack(lost))
  end
  if here[1] then
    write_here()
  end
end

local server, era = unpack(redis.call('HMGET', era_key, 'server', 'era'))
if server ~= server_name() then
  era = nil
end

-- Returns the head, or nil and what is wrong.
local function head_of(seq)
  local counters = redis.pcall('HMGET', seq, 'handed', 'era')
  local err = wrong_type(counters)
  if err then
    return nil, seq .. ': ' .. err
  end
  local head = counters[2] == era and counters[1]
  if head and (#head > HEAD_MAX_DIGITS or not string.find(head, '^%d+$')) then
    return nil, seq .. ': handed is not a seq'
  end
  return head or ''
end

-- Node → lines that it is to hear.
local lines = {}

-- Has the user's other nodes hear of the devices that have come; expired routes are gone by now.
local function announce(route, come)
  for _, other in ipairs(come ~= '' and redis.call('ZRANGE', route, 0, -1) or {}) do
    if other ~= node then
      lines[other] = lines[other] or {}
      for open in string.gmatch(come, '[^\n]+') do
        table.insert(lines[other], 'replaced - - - ' .. open .. ',"at_us":' .. at_text .. '}')
      end
    end
  end
end

local reply = {at_us, era or ''}
for n = 1, n_users do
  local route, held = KEYS[FIRST_USER + n - 1], ARGV[FIRST_HELD + n - 1]
  local was_live, route_err, left = write(route, held)
  local head, seq_err = head_of(KEYS[FIRST_USER + n_users + n - 1])
  local err = route_err or seq_err
  reply[#reply + 1] = err and -1 or was_live
  reply[#reply + 1] = err or head
  if not err then
    announce(route, ARGV[first_come + n - 1])
  end
  note_presence(route, held, ARGV[first_devices + n - 1], was_live, route_err, left)
end
write_presence()

local base = string.match(era_key, '^(.*:)')
for other, told in pairs(lines) do
  redis.call('SPUBLISH', base .. 'node:' .. other, table.concat(told, '\n'))
end
return reply
