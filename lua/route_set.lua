-- Writes whether a node holds sessions of some users, as the node knows it now, and tells what a session needs to start.
-- To the other nodes of a user it tells which of the user's devices are alive here: an older session there is to end.
--
-- KEYS[1]         era    hash: server, era
-- KEYS[2…n+1]     route  sorted set of each user: node → expiry, Unix ms
-- KEYS[n+2…2n+1]  seq    hash of the same users' targets: handed (the head), era
-- ARGV[1]         node   node id
-- ARGV[2]         ttl    life of a route, ms
-- ARGV[3…n+2]     held   for each user '1' when the node holds a session, '0' when it holds none
-- ARGV[n+3…2n+2]  come   for each user the devices whose sessions have shown that they are alive, mostly '': JSON objects (user,
--                        device, session) without their closing brace, one a line
--
-- Published: to the node channels <prefix>:{s}:node:<node> of the era's slot, `replaced - - - <object with at_us>`.
-- Returns at_us, the time of this call in µs, by which such sessions are ordered; the number of the era ('' where there is none:
-- Redis has restarted or failed over, and collect has not begun another one yet); then for each user two values, flat: was_live
-- (1 when an unexpired route to this node stood there before, else 0) and the head, 1 to 16 digits ('' where there is no counter
-- of this era: MongoDB knows then); or, where one of the user's keys is not what it should be, -1 and what is wrong: nobody is
-- replaced then. The other users are served all the same. Expired routes, of any node, are removed on the way.
-- Errors: ROUTES when the numbers of keys and arguments do not fit together; whatever Redis has against the caller.
-- Cost: O(users × log(nodes of a user) + devices × nodes of their users).
--
-- redis-cli --eval lua/route_set.lua 'push:{0}:era' 'push:{0}:route:alice' 'push:{0}:seq:user:alice' , edge-1.k3f9 60000 1 ''
local node, ttl = ARGV[1], tonumber(ARGV[2])
local era_key = KEYS[1]
local FIRST_USER, FIRST_HELD = 2, 3
local HEAD_MAX_DIGITS = 16
local n_users = (#KEYS - 1) / 2
local first_come = FIRST_HELD + n_users

if #ARGV ~= 2 * n_users + FIRST_HELD - 1 or not ttl then
  return redis.error_reply('ROUTES takes era, then a route and a seq key a user, then node, ttl, a held and a come a user')
end

-- Redis' clock, not the caller's: dispatch compares with the same one.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
-- A score of 13 digits would be written as 1.7e+12 by `..` and tostring.
local now_text = string.format('%.0f', now)
local expiry_text = string.format('%.0f', now + ttl)
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

-- Writes one route. Returns whether it stood there before, or nil and what is wrong.
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
  return was_live
end

-- Names this Redis and its history: a restart and a failover each bring a new name ('-' where INFO is not to be had).
local function server_name()
  local info = redis.pcall('INFO', 'replication')
  return type(info) == 'string' and string.match(info, 'master_replid:(%w+)') or '-'
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
  local was_live, route_err = write(KEYS[FIRST_USER + n - 1], ARGV[FIRST_HELD + n - 1])
  local head, seq_err = head_of(KEYS[FIRST_USER + n_users + n - 1])
  local err = route_err or seq_err
  reply[#reply + 1] = err and -1 or was_live
  reply[#reply + 1] = err or head
  if not err then
    announce(KEYS[FIRST_USER + n - 1], ARGV[first_come + n - 1])
  end
end

local base = string.match(era_key, '^(.*:)')
for other, told in pairs(lines) do
  redis.call('SPUBLISH', base .. 'node:' .. other, table.concat(told, '\n'))
end
return reply
