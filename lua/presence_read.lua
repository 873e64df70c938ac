-- Tells of some users whether they are there, since when, and where.
--
-- KEYS[1]     nodes   sorted set: node → expiry, Unix ms, of its heartbeat
-- KEYS[2]     online  hash: user → Unix ms since when
-- KEYS[3…]    routes  sorted set of each user: node → expiry, Unix ms
--
-- Read: the nodes' hashes <prefix>:{s}:on:<node>, of the same slot.
-- Returns for each user two values, flat: Unix ms since when as it stands in `online`, '' where nothing does; and a line for each
-- node that the user is on, `<node> <devices>`, by route, '' for nobody who is online. That is where an unexpired route leads to a
-- node whose heartbeat has not lapsed.
-- Errors: whatever Redis has against the caller; a key of another type counts as none.
-- Cost: O(nodes + users × log(nodes of a user)).
--
-- redis-cli --eval lua/presence_read.lua 'push:{0}:nodes' 'push:{0}:online' 'push:{0}:route:alice'
local nodes, online = KEYS[1], KEYS[2]
local FIRST_ROUTE = 3

local time = redis.call('TIME')
local after_now = string.format('(%.0f', tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000))
local base = string.match(nodes, '^(.*:)')
local id_begins = #base + #'route:' + 1

-- Returns the answer of a read, or nothing where the key is of another type.
local function read(...)
  local answer = redis.pcall(...)
  local err = type(answer) == 'table' and answer.err
  if err and not string.find(tostring(err), 'WRONGTYPE', 1, true) then
    error(answer)
  end
  return err and {} or answer
end

local alive = {}
for _, node in ipairs(read('ZRANGEBYSCORE', nodes, after_now, '+inf')) do
  alive[node] = base .. 'on:' .. node
end

local reply = {}
for n = FIRST_ROUTE, #KEYS do
  local user = string.sub(KEYS[n], id_begins)
  local lines = {}
  for _, node in ipairs(read('ZRANGEBYSCORE', KEYS[n], after_now, '+inf')) do
    if alive[node] then
      lines[#lines + 1] = node .. ' ' .. (read('HMGET', alive[node], user)[1] or '')
    end
  end
  reply[#reply + 1] = lines[1] and read('HMGET', online, user)[1] or ''
  reply[#reply + 1] = table.concat(lines, '\n')
end
return reply
