-- Hands the next messages of a stream to the edges that hold their people: takes a batch, looks up each target's live
-- routes, publishes one payload a node, acknowledges.
--
-- Keys derived from an entry, all in the slot of KEYS[2]: `route:<user>` (sorted set: node → expiry, Unix ms) and the sharded
-- channels `node:<node>`, `topic:<topic>` and `all`.
--
-- KEYS[1] lease        string: "<owner> <token>"
-- KEYS[2] stream       `out`: one field `line`, a payload line: <target> <prev> <seq> <opts> <frame>
-- KEYS[3] nodes        sorted set: node → expiry, Unix ms, of its heartbeat
-- KEYS[4] offline      stream, capped
-- KEYS[5] trace        stream, capped: an event a stage of each line whose opts hold `trace=1`
-- ARGV[1] held         what the lease must say
-- ARGV[2] from         '0' for entries taken before and not acknowledged, '>' for new ones; '>' only when '0' finds none
-- ARGV[3] max          most entries to take, which bounds the look-ups too (one target an entry)
-- ARGV[4] read_max     about how many bytes to take
-- ARGV[5] publish_max  most bytes to publish to one channel: Redis cuts off a subscriber that is 32 MB behind, and still
--                      counts it as reached
-- ARGV[6] offline_max  about how many offline reports are kept
-- ARGV[7] trace_max    about how many trace events are kept
--
-- Returns {taken, done, published, offline, failed_id, failed_text, waited}. `done` entries, the first of those taken, are
-- acknowledged and trimmed; the rest wait for a call with from '0'. When an entry is at fault, what precedes it is done, and
-- its id and what is wrong with it come in failed_id and failed_text ('' otherwise). The first of those taken had waited for
-- `waited` ms in the stream.
-- Errors: FENCED when the lease is not the caller's; NOGROUP, from Redis, when stream or group is missing; likewise an
-- ACL failure, when the caller may not read routes or publish.
-- Cost: O(entries × log(nodes of a user) + bytes).
--
-- redis-cli --eval lua/dispatch.lua 'push:{0}:lease:dispatch' 'push:{0}:out' 'push:{0}:nodes' 'push:{0}:offline' 'push:{0}:trace' , "$(redis-cli get 'push:{0}:lease:dispatch')" '>' 100 1048576 1048576 10000 10000
local lease, stream, nodes, offline, trace = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local held, from, max = ARGV[1], ARGV[2], tonumber(ARGV[3])
local read_max, publish_max = tonumber(ARGV[4]), tonumber(ARGV[5])
local offline_max, trace_max = ARGV[6], ARGV[7]
local GROUP = 'dispatch'

if redis.call('GET', lease) ~= held then
  return redis.error_reply('FENCED the lease is not held by ' .. held)
end

local base = string.match(stream, '^(.*:)')
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))

-- Takes entries up to max and read_max. An entry deleted while it was pending has no fields; it passes as done.
local function take()
  local taken, bytes, start, want = {}, 0, from, 1
  while #taken < max and bytes < read_max do
    local reply = redis.call('XREADGROUP', 'GROUP', GROUP, GROUP, 'COUNT', want, 'STREAMS', stream, start)
    local entries = reply and reply[1][2] or {}
    for _, entry in ipairs(entries) do
      taken[#taken + 1] = entry
      bytes = bytes + (entry[2] and #(entry[2][2]) or 0)
    end
    if #entries < want then
      break
    end
    if from ~= '>' then
      start = entries[#entries][1]
    end
    -- Twice as many the next time, as far as the budget goes for lines like these: nobody knows a line's size before.
    local fitting = bytes > 0 and math.floor((read_max - bytes) * #taken / bytes) or max
    want = math.max(1, math.min(want * 2, fitting, max - #taken))
  end
  return taken
end

-- A payload is what one channel gets: its lines, the entries they come from, their bytes. `node` is nil where the channel is a
-- topic's or everybody's.
local payloads = {}
local function payload_of(channel, node)
  local payload = payloads[channel]
  if not payload then
    payload = {node = node, lines = {}, entries = {}, bytes = 0}
    payloads[channel] = payload
  end
  return payload
end

-- Finds the payloads that a target's messages belong to, once a call. Returns a list, or nil and why not.
local payloads_of = {}
local function look_up(target)
  local kind, id = string.match(target, '^(%a+):(.+)$')
  local found = {}
  if kind == 'user' then
    local live = redis.pcall('ZRANGEBYSCORE', base .. 'route:' .. id, '(' .. now, '+inf')
    if live.err then
      -- A key of another type is this user's own trouble; anything else Redis has against the caller, whoever the user.
      if not string.find(tostring(live.err), 'WRONGTYPE', 1, true) then
        error(live.err)
      end
      return nil, live.err
    end
    for i, node in ipairs(live) do
      found[i] = payload_of(base .. 'node:' .. node, node)
    end
  elseif kind == 'topic' or target == 'all' then
    found[1] = payload_of(base .. target)
  else
    return nil, 'not a target: ' .. target
  end
  payloads_of[target] = found
  return found
end

-- Tells whether a line's opts ask for a trace. The frame is the first thing in a line that begins with a brace, and opts that
-- are '-' stand right before it: no more is looked at of nearly all lines.
local function is_traced(line, space)
  local frame_at = string.find(line, ' {', space, true)
  if not frame_at or string.sub(line, frame_at - 2, frame_at - 1) == ' -' then
    return false
  end
  local head = string.sub(line, 1, frame_at - 1)
  if not string.find(head, 'trace=1', space, true) then
    return false
  end
  local opts = string.match(head, '^%S+ %S+ %S+ (%S+)$') or ''
  return string.find(';' .. opts .. ';', ';trace=1;', 1, true) ~= nil
end

-- Adds a line to the payloads of its target. Returns whether that could be done, and why not where the entry is at fault
-- (nil where a payload is full).
local reports, traced = {}, {}
local function group(at, line)
  local space = string.find(line, ' ', 1, true)
  if not space then
    return false, 'not a payload line'
  end
  local target = string.sub(line, 1, space - 1)
  local found, err = payloads_of[target], nil
  if not found then
    found, err = look_up(target)
    if not found then
      return false, err
    end
  end
  for _, payload in ipairs(found) do
    if payload.bytes > 0 and payload.bytes + #line > publish_max then
      return false
    end
  end
  for _, payload in ipairs(found) do
    local n = #payload.lines + 1
    payload.lines[n] = line
    payload.entries[n] = at
    payload.bytes = payload.bytes + #line + 1
  end
  if #found == 0 then
    reports[at] = 'no_route'
  end
  if is_traced(line, space) then
    traced[#traced + 1] = {at = at, payloads = found}
  end
  return true
end

local taken = take()
if #taken == 0 then
  return {0, 0, 0, 0, '', '', 0}
end
local done, failed_id, failed_text = 0, '', ''
for at, entry in ipairs(taken) do
  local id, fields = entry[1], entry[2]
  if fields then
    local grouped, err = group(at, fields[2])
    if err then
      failed_id, failed_text = id, err
    end
    if not grouped then
      break
    end
  end
  done = at
end

-- Publishes, and judges each node by two witnesses. Its routes are always published to; a lapsed heartbeat or an empty
-- house each only adds a report (a subscriber on a replica hears although the count is 0; a frozen host counts although
-- nobody reads; a Redis that was paused runs this before the heartbeats that queue behind it). Both together drop the route.
local published = 0
local function judge(payload, heard)
  if not payload.lapsed and heard > 0 then
    return
  end
  for _, at in ipairs(payload.entries) do
    reports[at] = payload.lapsed and 'node_lapsed' or 'nobody_listening'
    if payload.lapsed and heard == 0 then
      local user = string.match(taken[at][2][2], '^user:(%S+)')
      redis.call('ZREM', base .. 'route:' .. user, payload.node)
    end
  end
end

-- Heartbeats are read before anything is published: what fails behind a publish has it published again.
for _, payload in pairs(payloads) do
  if payload.node then
    payload.lapsed = tonumber(redis.call('ZSCORE', nodes, payload.node) or 0) <= tonumber(now)
  end
end
for channel, payload in pairs(payloads) do
  if #payload.lines > 0 then
    -- Not pcall: Redis refuses a publish for the caller's sake (an ACL without the channel), never for the entry's. The
    -- error ends the call, and all that was taken is taken again.
    local heard = redis.call('SPUBLISH', channel, table.concat(payload.lines, '\n'))
    published = published + #payload.lines
    if payload.node then
      judge(payload, heard)
    end
  end
end
local offline_count = 0
for at = 1, done do
  local reason = reports[at]
  if reason then
    local target, seq, opts, frame = string.match(taken[at][2][2], '^(%S+) %S+ (%S+) (%S+) (.*)$')
    local expiry = tonumber(opts and string.match(opts, 'exp=(%d+)'))
    if seq and seq ~= '-' and not (expiry and expiry <= tonumber(now)) then
      redis.call('XADD', offline, 'MAXLEN', '~', offline_max, '*',
        'to', target, 'seq', seq, 'reason', reason, 'frame', frame)
      offline_count = offline_count + 1
    end
  end
end

-- Trace events are for people: one that Redis refuses is left out (pcall), and nothing else fails for it.
local function tell(line, stage, field, value)
  local target, seq, frame = string.match(line, '^(%S+) %S+ (%S+) %S+ (.*)$')
  -- Neither type nor target, which precede it, hold a quote of their own, so this is the message's id.
  local id = frame and string.match(frame, '"id":"([^"]*)"')
  if not id then
    return
  end
  local at = string.format('%.0f', time[1] * 1000000 + time[2])
  local entry = {'id', id, 'to', target, 'stage', stage, 'at', at, 'by', string.match(held, '^%S*')}
  if seq ~= '-' then
    entry[#entry + 1], entry[#entry + 2] = 'seq', seq
  end
  if value ~= '' then
    entry[#entry + 1], entry[#entry + 2] = field, value
  end
  redis.pcall('XADD', trace, 'MAXLEN', '~', trace_max, '*', unpack(entry))
end

for _, message in ipairs(traced) do
  local line, names = taken[message.at][2][2], {}
  for i, payload in ipairs(message.payloads) do
    names[i] = payload.node
  end
  if #message.payloads > 0 then
    tell(line, 'dispatched', 'nodes', table.concat(names, ','))
  end
  if reports[message.at] then
    tell(line, 'offline', 'why', reports[message.at])
  end
end

-- unpack fails at 8,000 values; max stays far below it.
if done > 0 then
  local ids = {}
  for at = 1, done do
    ids[at] = taken[at][1]
  end
  redis.call('XACK', stream, GROUP, unpack(ids))
  -- One trim a batch costs less than an XDEL an entry. MINID keeps what it names, hence the XDEL.
  redis.call('XTRIM', stream, 'MINID', '=', ids[done])
  redis.call('XDEL', stream, ids[done])
end
local waited = math.max(0, tonumber(now) - tonumber(string.match(taken[1][1], '^%d+')))
return {#taken, done, published, offline_count, failed_id, failed_text, waited}
