-- Hands the next messages of a stream to the edges that hold their people: takes a batch, looks up each target's live
-- routes, publishes one payload a node, acknowledges.
--
-- Keys derived from an entry, all in the slot of KEYS[2]: `route:<user>` (sorted set: node → expiry, Unix ms) and the sharded
-- channels `node:<node>`, `topic:<topic>` and `all`.
--
-- What stands in the stream is what is still to be done, oldest first: the script reads it with XRANGE, and deletes what it is
-- done with. It takes nothing through the group, which would have Redis keep a note of every entry and write one to the
-- append-only file, only to drop it in the same call. The group's position tells how far dispatch has come, for people and for
-- lua/forget.lua's caller.
--
-- Contents: reading; looking up and grouping; lines of many; traces; the dead; the fast lane, whose functions are made only for a
-- call that needs them; the lane of finished lines; the call itself: read and group, publish, report, tell and trim.
--
-- KEYS[1] lease        string: "<owner> <token>"
-- KEYS[2] stream       `out`: one field `line`, payload lines separated by newlines, as they hold none: <target> <prev> <seq>
--                      <opts> <frame>; or alone one of many users: many - - <opts> <target>,<prev>,<seq>,… <rest of the frame>;
--                      see "Lines of many" below
--                      `fast`: what producers append, of which the line is made here; see "The fast lane" below
-- KEYS[3] nodes        sorted set: node → expiry, Unix ms, of its heartbeat
-- KEYS[4] offline      stream, capped
-- KEYS[5] trace        stream, capped: an event a stage of each line whose opts hold `trace=1`
-- KEYS[6] dead         stream, capped: what is at fault, as bury.lua writes it: an entry of `fast`, a line of `out`
-- ARGV[1] held         what the lease must say
-- ARGV[2] max          most lines to take, which bounds the look-ups too: one target a line. They end with an entry, which may
--                      pass it; an entry of `fast` is a line. And most targets of lines of many, unless the first alone has more
-- ARGV[3] read_first   how many of them to read at first: nobody knows an entry's size before it is read
-- ARGV[4] read_max     about how many bytes to take
-- ARGV[5] publish_max  most bytes to publish to one channel: Redis cuts off a subscriber that is 32 MB behind, and still
--                      counts it as reached. No more do lines of many become, all their frames together. Either unless the first
--                      entry alone has more
-- ARGV[6] offline_max  about how many offline reports are kept
-- ARGV[7] trace_max    about how many trace events are kept
-- ARGV[8] lane         'out' or 'fast': which of the two the stream is
-- ARGV[9] dead_max     about how many dead letters are kept. What follows is for `fast` alone, which needs it all
-- ARGV[10] shards      how many there are
-- ARGV[11] body_max    longest body or text, bytes
-- ARGV[12] age_max     how long after it was appended a message is handed on, ms
-- ARGV[13] ttl_max     longest ttl, seconds
--
-- Returns {taken, done, published, offline, failed_id, failed_text, waited, dead, expired, moved, more}. `done` entries, the first of
-- those taken, are deleted; the rest are the first that the next call finds. The first of those taken had waited for `waited` ms
-- in the stream. What is at fault, an entry of `fast` or a line of `out`, harms nothing that surrounds it: `dead` are in the
-- dead-letter stream, failed_id (the entry) and failed_text tell of the last of them, and are '' otherwise. `expired` were
-- dropped because their time was over. `moved` belong to other shards, and are in Redis no longer: {shard, field, value, …}
-- each, for the caller to append to that shard's `fast`. What is done stood for `more` messages than there were entries.
-- Errors: FENCED when the lease is not the caller's; NOGROUP, from Redis, when stream or group is missing; likewise an
-- ACL failure, when the caller may not read routes or publish.
-- Cost: O(targets × log(nodes of a user) + bytes); of `fast` with several shards, also some 10 µs a target that has no route.
--
-- redis-cli --eval lua/dispatch.lua 'push:{0}:lease:dispatch' 'push:{0}:out' 'push:{0}:nodes' 'push:{0}:offline' 'push:{0}:trace' 'push:{0}:dead' , "$(redis-cli get 'push:{0}:lease:dispatch')" 100 10 1048576 1048576 10000 10000 out 10000
local lease, stream, nodes, offline, trace, dead = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local held, max, read_first = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local read_max, publish_max = tonumber(ARGV[4]), tonumber(ARGV[5])
local offline_max, trace_max = ARGV[6], ARGV[7]
local is_fast, dead_max, shards = ARGV[8] == 'fast', ARGV[9], ARGV[10]
local body_max, age_max, ttl_max = ARGV[11], ARGV[12], ARGV[13]
local GROUP = 'dispatch'
if is_fast then
  shards, body_max, age_max, ttl_max = tonumber(shards), tonumber(body_max), tonumber(age_max), tonumber(ttl_max)
end

if redis.call('GET', lease) ~= held then
  return redis.error_reply('FENCED the lease is not held by ' .. held)
end

local base = string.match(stream, '^(.*:)')
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local now = string.format('%.0f', now_ms)
local now_us = time[1] * 1000000 + time[2]

---- Reading -------------------------------------------------------------------------------------------------------------------

-- How many times as many entries a read asks for as the one before it, and how many at most.
local READ_GROWTH, READ_MOST = 8, 512

-- How much of read_max an entry uses up: its bytes; of a line of many, about those of all its frames.
local PLACE_BYTES = 48
local function size_of(fields)
  local bytes = 0
  for part = 1, #fields do
    bytes = bytes + #fields[part]
  end
  if string.sub(fields[2], 1, 5) == 'many ' then
    local line = fields[2]
    local _, before = string.find(line, '^many %- %- %S+ ')
    local behind = before and string.find(line, ' ', before + 1, true) or #line
    bytes = bytes + (behind - (before or behind)) / PLACE_BYTES * (#line - behind)
  end
  return bytes
end

-- The lines of all entries read, by number; and of each entry, the number of its last. In `fast` an entry is a line.
local lines, last_of = {}, {}

-- Adds the lines of an entry to those behind `n`, and returns how many there are then.
local function split(text, n)
  local from, stop = 1, string.find(text, '\n', 1, true)
  while stop do
    n = n + 1
    lines[n] = string.sub(text, from, stop - 1)
    from = stop + 1
    stop = string.find(text, '\n', from, true)
  end
  lines[n + 1] = from > 1 and string.sub(text, from) or text
  return n + 1
end

-- Reads entries up to the one with which there are max lines, and up to the one that passes read_max.
local function take()
  local taken, count, total, bytes, start, want = {}, 0, 0, 0, '-', math.min(read_first, max)
  while want > 0 do
    local entries = redis.call('XRANGE', stream, start, '+', 'COUNT', want)
    for at = 1, #entries do
      count = count + 1
      taken[count] = entries[at]
      bytes = bytes + size_of(entries[at][2])
      if is_fast then
        total = count
      else
        total = split(entries[at][2][2], total)
        last_of[count] = total
      end
      if bytes >= read_max or total >= max then
        return taken
      end
    end
    if #entries < want then
      break
    end
    start = '(' .. entries[want][1]
    local fitting = math.ceil((read_max - bytes) * count / bytes)
    want = math.min(want * READ_GROWTH, READ_MOST, fitting, math.ceil((max - total) * count / total))
  end
  return taken
end

---- Looking up and grouping ---------------------------------------------------------------------------------------------------

-- A payload is what one channel gets: its lines, their numbers, their bytes. `node` is nil where the channel is a topic's or
-- everybody's.
local payloads = {}
local function payload_of(channel, node)
  local payload = payloads[channel]
  if not payload then
    payload = {node = node, lines = {}, numbers = {}, count = 0, bytes = 0}
    payloads[channel] = payload
  end
  return payload
end

-- Finds the payloads that a target's messages belong to, once a call. Returns a list, or nil and why not.
local payloads_of = {}
local node_channel, route_key, live_from = base .. 'node:', base .. 'route:', '(' .. now
local function look_up(target)
  local found = {}
  if string.sub(target, 1, 5) == 'user:' and #target > 5 then
    local live = redis.pcall('ZRANGEBYSCORE', route_key .. string.sub(target, 6), live_from, '+inf')
    if live.err then
      -- A key of another type is this user's own trouble; anything else Redis has against the caller, whoever the user.
      if not string.find(tostring(live.err), 'WRONGTYPE', 1, true) then
        error(live.err)
      end
      return nil, live.err
    end
    for i = 1, #live do
      found[i] = payload_of(node_channel .. live[i], live[i])
    end
  elseif target == 'all' or string.find(target, '^topic:.') then
    found[1] = payload_of(base .. target)
  else
    return nil, 'not a target: ' .. string.sub(target, 1, 64)
  end
  payloads_of[target] = found
  return found
end

-- Tells whether every payload has room for so many bytes more. The first of a call always finds it.
local fullest = 0
local function has_room(bytes)
  return fullest == 0 or fullest + bytes <= publish_max
end

-- Adds a line, whose number is n, to payloads.
local reports, traced = {}, {}
local function add(n, line, found)
  local length, size = #found, #line
  if length == 0 then
    reports[n] = 'no_route'
  end
  for i = 1, length do
    local payload = found[i]
    local place, bytes = payload.count + 1, payload.bytes + size + 1
    payload.lines[place], payload.numbers[place], payload.count, payload.bytes = line, n, place, bytes
    if bytes > fullest then
      fullest = bytes
    end
  end
end

-- Tells whether a line's opts ask for a trace. The frame is the first thing in a line that begins with a brace, and opts that
-- are '-' stand right before it: no more is looked at of nearly all lines.
local SPACE, HYPHEN = 32, 45
local function is_traced(line, space)
  local frame_at = string.find(line, ' {', space, true)
  if not frame_at then
    return false
  end
  local before, last = string.byte(line, frame_at - 2, frame_at - 1)
  if before == SPACE and last == HYPHEN then
    return false
  end
  local head = string.sub(line, 1, frame_at - 1)
  if not string.find(head, 'trace=1', space, true) then
    return false
  end
  local opts = string.match(head, '^%S+ %S+ %S+ (%S+)$') or ''
  return string.find(';' .. opts .. ';', ';trace=1;', 1, true) ~= nil
end

-- Adds a line to the payloads of its target. Returns whether that could be done, and why not where the line is at fault (nil
-- where it is for the next call, which only one that is `alone` in its entry ever is).
local MANY, group_many = 'many', nil
local function group(n, line, alone)
  local space = string.find(line, ' ', 1, true)
  if not space then
    return false, 'not a payload line'
  end
  local target = string.sub(line, 1, space - 1)
  local found, err = payloads_of[target], nil
  if not found then
    if target == MANY and alone then
      return group_many(n, line)
    end
    found, err = look_up(target)
    if not found then
      return false, err
    end
  end
  add(n, line, found)
  if is_traced(line, space) then
    traced[#traced + 1] = {number = n, payloads = found}
  end
  return true
end

---- Lines of many -------------------------------------------------------------------------------------------------------------

-- A line of many stands for as many messages that differ in target, prev and seq alone, and none of them is traced:
--
--   many - - <opts> user:a,<prev>,<seq>,user:b,<prev>,<seq>,… "id":…,"ts":…,"body":…}
--
-- Each node gets one such line, with the places of its own users. wide[n] is what is needed for reports of line n.
local wide, looked, reportable, more = {}, 0, 0, 0

-- Returns what a line of many says, or nil and what is wrong with it.
local function read_many(line)
  local opts, places, rest = string.match(line, '^many %- %- (%S+) (%S+) (.*)$')
  if not opts then
    return nil, 'not a payload line'
  end
  local many = {opts = opts, rest = rest, targets = {}, numbers = {}, count = 0, reasons = {}}
  for target, numbers in string.gmatch(places, '([^,]+),([^,]+,[^,]+)') do
    if string.sub(target, 1, 5) ~= 'user:' then
      return nil, 'not a user: ' .. target
    end
    local n = many.count + 1
    many.targets[n], many.numbers[n], many.count = target, numbers, n
  end
  return many
end

-- Adds a line of many to the payloads of its users' nodes. Returns as `group` does.
function group_many(number, line)
  local many, err = read_many(line)
  if not many then
    return false, err
  end
  local targets, numbers, count = many.targets, many.numbers, many.count
  -- Whoever is offline is reported with a frame: in the worst case as many as there are places.
  local frames = string.sub(numbers[1] or '', 1, 1) == '-' and 0 or count * #many.rest
  if number > 1 and (looked + count > max or reportable + frames > publish_max) then
    return false
  end
  local parts = {}
  for i = 1, count do
    -- A route that cannot be read is this user's own trouble, and none of the others'.
    local found = payloads_of[targets[i]] or look_up(targets[i]) or {}
    if #found == 0 then
      many.reasons[i], reports[number] = 'no_route', 'no_route'
    end
    for _, payload in ipairs(found) do
      local part = parts[payload] or {}
      part[#part + 1] = i
      parts[payload] = part
    end
  end
  local head = 'many - - ' .. many.opts .. ' '
  for payload, part in pairs(parts) do
    if #part == count then
      part.line = line
    else
      local places = {}
      for n, i in ipairs(part) do
        places[n] = targets[i] .. ',' .. numbers[i]
      end
      part.line = head .. table.concat(places, ',') .. ' ' .. many.rest
    end
    add(number, part.line, {payload})
    payload.parts = payload.parts or {}
    payload.parts[payload.count] = part
  end
  wide[number], looked, reportable, more = many, looked + count, reportable + frames, more + count - 1
  return true
end

---- Traces --------------------------------------------------------------------------------------------------------------------

-- Tells that a message was at a stage at a time, in µs. Trace events are for people: one that Redis refuses is left out
-- (pcall), and nothing else fails for it.
local function tell(id, target, stage, at_us, ...)
  redis.pcall('XADD', trace, 'MAXLEN', '~', trace_max, '*',
    'id', id, 'to', target, 'stage', stage, 'at', string.format('%.0f', at_us), 'by', string.match(held, '^%S*'), ...)
end

-- Tells of a line that was handed on. `value` is left out where it is ''.
local function tell_line(line, stage, field, value)
  local target, seq, frame = string.match(line, '^(%S+) %S+ (%S+) %S+ (.*)$')
  -- Neither type nor target, which precede it, hold a quote of their own, so this is the message's id.
  local id = frame and string.match(frame, '"id":"([^"]*)"')
  if not id then
    return
  end
  local more = {}
  if seq ~= '-' then
    more[1], more[2] = 'seq', seq
  end
  if value ~= '' then
    more[#more + 1], more[#more + 2] = field, value
  end
  tell(id, target, stage, now_us, unpack(more))
end

---- The dead ------------------------------------------------------------------------------------------------------------------

-- unpack fails at 8,000 values; an entry with more fields than fit is kept as one JSON array.
local MAX_VALUES = 7000

-- Writes a dead letter: why, where from, and the fields of the entry.
local dead_count, last_dead = 0, nil
local function keep_dead(id, reason, fields)
  local kept = #fields > MAX_VALUES and {'fields', cjson.encode(fields)} or fields
  redis.call('XADD', dead, 'MAXLEN', '~', dead_max, '*', 'reason', reason, 'source', stream, 'entry', id, unpack(kept))
  dead_count, last_dead = dead_count + 1, {id = id, reason = reason}
end

---- The fast lane -------------------------------------------------------------------------------------------------------------

-- A producer appends here what is transient, in the shard of its one target, and this makes the line of it:
--
--   <target> - - exp=<ms>;fast=1 {"type":"message","to":…,"id":…,"ts":…,"body":<as it came>}
--
-- and behind `fast=1`, where the entry asks for it, `;trace=1` and `;not=<exclude>`.
--
-- What an entry may say is the contract of router/collect/entries.py, and the reasons are worded alike. Three rules are
-- stricter: one target, `transient` only 1, and no control character in a body, not even between the parts of its JSON, since a
-- newline would end the line. Whether a body is JSON, and all of it UTF-8, is left to the edge, which is told by `fast=1` to
-- look.
--
-- Nearly all entries are plain: a target and a body, nothing else. Those are read by read_plain, and whatever it does not take
-- by read_fast. What it takes, read_fast would have made the same of.
--
-- read_fast and all that belongs to it stand within a function, because making them costs a call as much as several entries.
local own_shard = tonumber(string.match(stream, '{(%d+)}'))
local expired_count, moved = 0, {}

-- What of a frame is the same for all that was appended in one millisecond.
local stamp, opts_and_to, ts_and_body
local function set_stamp(text)
  stamp, opts_and_to = text, nil
  local ms = math.min(tonumber(text), now_ms)
  local expires_ms = ms + age_max
  if expires_ms > now_ms then
    opts_and_to = string.format(' - - exp=%.0f;fast=1 {"type":"message","to":"', expires_ms)
    ts_and_body = string.format('","ts":%.0f,"body":', ms)
  end
end

-- Returns the line of a plain entry and the payloads of its target; or nil where it is not plain, or may be at fault, expired
-- or in the wrong shard.
local ID_PLAIN_MAX = 128
-- All but control bytes: twice as fast as %C, which asks the C library twice about each byte.
local BODY_PLAIN = '^[ -~\128-\255]*$'
local id_of_shard = '","id":"' .. own_shard .. '-'
local function read_plain(id, fields)
  local target, body = fields[2], fields[4]
  if #fields ~= 4 or fields[1] ~= 'to' or fields[3] ~= 'body' or #body > body_max or not string.find(body, BODY_PLAIN) then
    return nil
  end
  local found = payloads_of[target]
  if not found then
    if #target > ID_PLAIN_MAX or not string.find(target, '^user:[%w._@-]+$') then
      return nil
    end
    found = look_up(target)
  end
  -- Whoever has a route here belongs here: an edge registers it in the user's own shard.
  if not found or shards > 1 and not found[1] then
    return nil
  end
  local text = string.sub(id, 1, string.find(id, '-', 1, true) - 1)
  if text ~= stamp then
    set_stamp(text)
  end
  if not opts_and_to then
    return nil
  end
  return target .. opts_and_to .. target .. id_of_shard .. id .. ts_and_body .. body .. '}', found
end

local read_fast, bury
local function make_rules()
  local FIELDS = {to = 1, body = 1, text = 1, id = 1, ttl = 1, exclude = 1, collapse = 1, at = 1, transient = 1, trace = 1,
    traceparent = 1}
  local FIELD_NAMES = 'at, body, collapse, exclude, id, text, to, trace, traceparent, transient, ttl, x-*'
  local CARRIED_MAX, CARRIED_MAX_CHARS = 16, 1024
  local ID_MAX_CHARS = 128
  local CONTENT_MAX = 16000000

  local C1_CONTROL = '\194[\128-\159]'
  -- What Unicode calls white space beyond ASCII and C1: U+00A0, U+1680, U+2000 to U+200A, U+2028, U+2029, U+202F, U+205F and
  -- U+3000.
  local WHITE_SPACE = {'\194\160', '\225\154\128', '\226\128[\128-\138\168\169\175]', '\226\129\159', '\227\128\128'}

  -- Writes a text as the inside of a JSON string. By a table, which gsub reads without calling into Lua.
  local escapes
  local function escape(text)
    if not escapes then
      escapes = {['"'] = '\\"', ['\\'] = '\\\\', ['\127'] = '\\u007f'}
      for code = 0, 31 do
        escapes[string.char(code)] = string.format('\\u%04x', code)
      end
    end
    return (string.gsub(text, '[%c"\\]', escapes))
  end

  -- Makes the beginning of what a producer wrote fit to be read, whatever its bytes.
  local function shown(value)
    return (string.gsub(string.sub(value, 1, 64), '[^\32-\126]', function(byte)
      return string.format('\\x%02x', string.byte(byte))
    end))
  end

  -- Tells whether a text is UTF-8: RFC 3629, section 4, whose bounds of the second byte leave out overlong forms, halves of
  -- surrogate pairs and what is above U+10FFFF.
  local function is_utf8(text)
    local at = string.find(text, '[\128-\255]')
    while at do
      local lead, second, third, fourth = string.byte(text, at, at + 3)
      local low = lead == 0xE0 and 0xA0 or lead == 0xF0 and 0x90 or 0x80
      local high = lead == 0xED and 0x9F or lead == 0xF4 and 0x8F or 0xBF
      local size = lead < 0xE0 and 2 or lead < 0xF0 and 3 or 4
      if lead < 0xC2 or lead > 0xF4 or not second or second < low or second > high
        or size > 2 and (not third or third < 0x80 or third > 0xBF)
        or size > 3 and (not fourth or fourth < 0x80 or fourth > 0xBF) then
        return false
      end
      at = string.find(text, '[\128-\255]', at + size)
    end
    return true
  end

  -- A character has at most four bytes. Whoever counts characters looks at that first: the loop above is Lua's own, and over a
  -- value of megabytes would keep everybody waiting for seconds.
  local CHARACTER_MAX = 4

  -- Counts the characters of UTF-8.
  local function characters(text)
    local _, count = string.gsub(text, '[^\128-\191]', '')
    return count
  end

  local function is_id(id)
    if id == '' or #id > ID_MAX_CHARS * CHARACTER_MAX or string.find(id, '[%z\1-\32\127,{}"\\]') then
      return false
    end
    if not string.find(id, '[\128-\255]') then
      return #id <= ID_MAX_CHARS
    end
    if not is_utf8(id) or characters(id) > ID_MAX_CHARS or string.find(id, C1_CONTROL) then
      return false
    end
    for _, space in ipairs(WHITE_SPACE) do
      if string.find(id, space) then
        return false
      end
    end
    return true
  end

  -- Exclusive or of two numbers from 0 to 15, for a key hash: Redis has `bit`, fakeredis has not.
  local xor
  local function make_xor()
    xor = {}
    for a = 0, 15 do
      xor[a] = {}
      for b = 0, 15 do
        local half = a > 1 and xor[math.floor(a / 2)][math.floor(b / 2)] or math.floor(b / 2)
        xor[a][b] = 2 * half + (a + b) % 2
      end
    end
  end

  -- The slot that Redis Cluster gives a key: CRC16 with polynomial 0x1021, started at 0, modulo 16384; as router/shards.py. It
  -- goes half a byte at a time: the remainder of half a byte t is 0x1021 × t, whose digits in base 16 are t, t ÷ 8, 2t mod 16
  -- and t. An id has no braces, so the rule for hash tags has nothing to apply to.
  local function keyslot(id)
    if not xor then
      make_xor()
    end
    local a, b, c, d = 0, 0, 0, 0
    for at = 1, #id do
      local byte = string.byte(id, at)
      local t = xor[a][math.floor(byte / 16)]
      a, b, c, d = xor[b][t], xor[c][math.floor(t / 8)], xor[d][t * 2 % 16], t
      t = xor[a][byte % 16]
      a, b, c, d = xor[b][t], xor[c][math.floor(t / 8)], xor[d][t * 2 % 16], t
    end
    return (a * 4096 + b * 256 + c * 16 + d) % 16384
  end

  -- Judges a target, once a call. Returns its shard, or nil and which rule it breaks.
  local shard_of = {}
  local function judge_target(target)
    if not target or target == '' then
      return nil, 'to: is missing (one target)'
    end
    if shard_of[target] then
      return shard_of[target]
    end
    if string.find(target, ',', 1, true) then
      return nil, 'to: more than one target (an entry of `fast` has one)'
    end
    local kind, id = string.match(target, '^(%a+):(.*)$')
    if target == 'all' then
      id = target
    elseif kind ~= 'user' and kind ~= 'topic' then
      return nil, 'to: "' .. shown(target) .. '" is not a target (user:<id>, topic:<name> or all)'
    elseif not is_id(id) then
      return nil, 'to: "' .. shown(id) .. '" is not an id'
    end
    shard_of[target] = shards > 1 and keyslot(id) % shards or own_shard
    return shard_of[target]
  end

  -- Returns which rule a field that is carried along breaks, or nil.
  local function carried_fault(name, value)
    if name ~= 'traceparent' and not string.find(name, '^x%-[%w._-]+$') then
      return shown(name) .. ": a carried field's name takes letters, digits, dot, underscore and hyphen"
    end
    local is_short = #name <= CARRIED_MAX_CHARS and #value <= CARRIED_MAX_CHARS * CHARACTER_MAX
    if not is_short or string.find(value, '%c') or not is_utf8(value) or string.find(value, C1_CONTROL)
      or characters(value) > CARRIED_MAX_CHARS then
      return shown(name) .. ': a carried field takes at most ' .. CARRIED_MAX_CHARS .. ' characters of UTF-8, no control'
    end
  end

  -- Returns the values of an entry by their names, or nil and which rule it breaks.
  local function by_name(fields)
    local values, carried = {}, 0
    for at = 1, #fields, 2 do
      local name, value = fields[at], fields[at + 1]
      if values[name] then
        return nil, shown(name) .. ': given twice'
      end
      if not FIELDS[name] and string.sub(name, 1, 2) ~= 'x-' then
        return nil, shown(name) .. ': there is no such field (fields: ' .. FIELD_NAMES .. ')'
      end
      if not FIELDS[name] or name == 'traceparent' then
        carried = carried + 1
        if carried > CARRIED_MAX then
          return nil, 'x-*: more than ' .. CARRIED_MAX .. ' carried fields'
        end
        local fault = carried_fault(name, value)
        if fault then
          return nil, fault
        end
      end
      values[name] = value
    end
    return values
  end

  -- Tells whether a value names a session or a device.
  local function is_excludable(value)
    local session = string.match(value, '^session:(.*)$')
    if session then
      return is_id(session)
    end
    local user, device = string.match(value, '^device:([^,]*),(.*)$')
    return user and is_id(user) and is_id(device)
  end

  -- Marks of opts, as router/lines.py writes them in the value of one.
  local QUOTED = {['%'] = '%25', [';'] = '%3B', ['='] = '%3D'}

  -- Returns which rule the values other than target and content break, or nil.
  local function fault_of(values)
    local for_stored = values.at and 'at' or values.collapse and 'collapse'
    if for_stored then
      return for_stored .. ': is for what is stored, and a transient message is not'
    end
    local exclude = values.exclude
    if exclude and not is_excludable(exclude) then
      return 'exclude: "' .. shown(exclude) .. '" is neither session:<id> nor device:<user>,<device>'
    end
    local id, ttl, transient, flag = values.id, values.ttl, values.transient, values.trace
    if id and not is_id(id) then
      return 'id: "' .. shown(id) .. '" is not an id'
    end
    if ttl and (#ttl > 10 or not string.find(ttl, '^%d+$') or tonumber(ttl) < 1 or tonumber(ttl) > ttl_max) then
      return 'ttl: "' .. shown(ttl) .. '" is not a whole number of seconds from 1 to ' .. string.format('%.0f', ttl_max)
    end
    if transient and transient ~= '1' then
      return 'transient: "' .. shown(transient) .. '" is not 1 (what is in `fast` is transient)'
    end
    if flag and flag ~= '0' and flag ~= '1' then
      return 'trace: "' .. shown(flag) .. '" is not 1 (or 0)'
    end
  end

  -- Returns an entry's content as it stands in the frame, or nil and which rule it breaks.
  local function content_of(values)
    local body, text = values.body, values.text
    if (body == nil) == (text == nil) then
      return nil, 'body: exactly one of body and text is needed'
    end
    local name, value = body and 'body' or 'text', body or text
    if #value > body_max then
      return nil, string.format('%s: longer than %.0f bytes (%.0f)', name, body_max, #value)
    end
    if body then
      if not string.find(body, '^%C*$') then
        return nil, 'body: a control character (on the fast lane there is none between the parts of the JSON either)'
      end
      return '"body":' .. body
    end
    local escaped = string.find(text, '[%c"\\]') and escape(text) or text
    if #escaped > CONTENT_MAX then
      return nil, string.format('text: longer than %.0f bytes as JSON (%.0f)', CONTENT_MAX, #escaped)
    end
    return '"text":"' .. escaped .. '"'
  end

  -- Returns nil, and an entry's values, shard and content; or which rule it breaks.
  local function judge_entry(fields)
    local values, fault = by_name(fields)
    if not values then
      return fault
    end
    local shard, content
    shard, fault = judge_target(values.to)
    if not shard then
      return fault
    end
    content, fault = content_of(values)
    return fault or fault_of(values), values, shard, content
  end

  -- When an entry was appended, Unix ms, and never in the future.
  local function appended_ms(id)
    return math.min(tonumber(string.match(id, '^%d+')), now_ms)
  end

  -- Tells that an entry ends here, where it asks for that. Its id stands in for one not given.
  local function tell_end(id, fields, stage, why)
    local values = {}
    for at = 1, #fields, 2 do
      values[fields[at]] = string.sub(fields[at + 1], 1, 200)
    end
    if values.trace == '1' then
      local message_id, target = values.id or id, values.to or ''
      tell(message_id, target, 'appended', appended_ms(id) * 1000)
      tell(message_id, target, stage, now_us, 'why', why)
    end
  end

  -- Moves an entry to the dead-letter stream, now: whatever becomes of the rest of the call, it is done with.
  function bury(id, fields, reason)
    -- First, because Redis allows it when memory is full, and the XADD behind it is then allowed too.
    redis.call('XACK', stream, GROUP, id)
    keep_dead(id, reason, fields)
    redis.call('XDEL', stream, id)
    tell_end(id, fields, 'dead', reason)
  end

  -- Notes what is to be appended to another shard's `fast`: with the id that it has here, and what is left of its time in
  -- seconds, rounded up, because over there the time is counted anew.
  local function move(fields, shard, message_id, left_ms)
    local entry = {shard}
    for at = 1, #fields, 2 do
      if fields[at] ~= 'id' and fields[at] ~= 'ttl' then
        entry[#entry + 1], entry[#entry + 2] = fields[at], fields[at + 1]
      end
    end
    entry[#entry + 1], entry[#entry + 2] = 'id', message_id
    entry[#entry + 1], entry[#entry + 2] = 'ttl', string.format('%.0f', math.ceil(left_ms / 1000))
    moved[#moved + 1] = entry
  end

  -- Makes an entry of `out` of one of `fast`. Returns its fields, and beside them what is to be told of it where it is traced;
  -- or nil where nothing is to be published: it broke a rule, came too late or belongs elsewhere.
  function read_fast(id, fields)
    local fault, values, shard, content = judge_entry(fields)
    if fault then
      bury(id, fields, fault)
      return nil
    end
    local ms = appended_ms(id)
    local expires_ms = ms + (values.ttl and math.min(tonumber(values.ttl) * 1000, age_max) or age_max)
    if expires_ms <= now_ms then
      expired_count = expired_count + 1
      tell_end(id, fields, 'expired', 'its time was over before dispatch took it')
      return nil
    end
    -- No digest, as collect has it for an inbox that outlives the stream: nobody compares the ids of what is not stored.
    local target, message_id = values.to, values.id or own_shard .. '-' .. id
    if shard ~= own_shard then
      move(fields, shard, message_id, expires_ms - now_ms)
      return nil
    end
    local traced_opt = values.trace == '1' and ';trace=1' or ''
    local not_opt = values.exclude and ';not=' .. string.gsub(values.exclude, '[%%;=]', QUOTED) or ''
    local line = target .. ' - - exp=' .. string.format('%.0f', expires_ms) .. ';fast=1' .. traced_opt .. not_opt
      .. ' {"type":"message","to":"' .. target .. '","id":"' .. message_id .. '","ts":' .. string.format('%.0f', ms) .. ','
      .. content .. '}'
    local as_out = {'line', line}
    if values.trace == '1' then
      as_out.appended = {message_id, target, 'appended', ms * 1000}
      if values.traceparent then
        as_out.appended[5], as_out.appended[6] = 'traceparent', values.traceparent
      end
    end
    return as_out
  end
end

-- Does with an entry what is to be done before anything is published. Returns whether that could be done.
local function hand_fast(at, entry)
  local id, fields = entry[1], entry[2]
  local line, found = read_plain(id, fields)
  if line then
    if not has_room(#line) then
      return false
    end
    lines[at] = line
    add(at, line, found)
    return true
  end
  if not read_fast then
    make_rules()
  end
  entry[2] = read_fast(id, fields)
  if not entry[2] then
    return true
  end
  line = entry[2][2]
  if not has_room(#line) then
    return false
  end
  lines[at] = line
  local _, err = group(at, line, false)
  if err then
    bury(id, fields, tostring(err))
  end
  return true
end

---- The lane of finished lines ------------------------------------------------------------------------------------------------

-- What is at fault in `out`: {at, text, why}, the entry and the line alone. It is buried once its neighbours are published.
local faults = {}

-- Adds the lines of an entry to payloads, all of them or none. Returns whether that could be done.
local function hand_out(at, entry)
  local first, last, text = (last_of[at - 1] or 0) + 1, last_of[at], entry[2][2]
  if not has_room(#text) then
    return false
  end
  for n = first, last do
    local grouped, err = group(n, lines[n], first == last)
    if err then
      faults[#faults + 1] = {at = at, text = lines[n], why = tostring(err)}
    elseif not grouped then
      return false
    end
  end
  more = more + last - first
  return true
end

---- The call: read and group --------------------------------------------------------------------------------------------------

local taken = take()
if #taken == 0 then
  -- A write all the same: a replica has to refuse it, or dispatch would wait there for what is appended elsewhere. It takes out
  -- of the group what was taken through it by an earlier version, and is gone.
  redis.call('XAUTOCLAIM', stream, GROUP, GROUP, 0, '0-0', 'COUNT', 1000, 'JUSTID')
  return {0, 0, 0, 0, '', '', 0, 0, 0, {}, 0}
end
-- The first write: it fails where the group is missing, before anything is done. Redis allows it when memory is full, and those
-- behind it are then allowed too.
redis.call('XGROUP', 'SETID', stream, GROUP, taken[1][1])
local done, hand = 0, is_fast and hand_fast or hand_out
for at = 1, #taken do
  if not hand(at, taken[at]) then
    break
  end
  done = at
end
---- The call: publish ---------------------------------------------------------------------------------------------------------

-- Judges a node by two witnesses. Its routes are always published to; a lapsed heartbeat or an empty
-- house each only adds a report (a subscriber on a replica hears although the count is 0; a frozen host counts although
-- nobody reads; a Redis that was paused runs this before the heartbeats that queue behind it). Both together drop the route.
local function judge_node(payload, heard)
  if not payload.lapsed and heard > 0 then
    return
  end
  for place, number in ipairs(payload.numbers) do
    local many, dropped = wide[number], nil
    reports[number] = payload.lapsed and 'node_lapsed' or 'nobody_listening'
    if many then
      dropped = {}
      for i, of_many in ipairs(payload.parts[place]) do
        many.reasons[of_many], dropped[i] = reports[number], many.targets[of_many]
      end
    else
      dropped = {string.match(lines[number], '^(user:%S+)')}
    end
    if payload.lapsed and heard == 0 then
      for _, target in ipairs(dropped) do
        redis.call('ZREM', route_key .. string.sub(target, 6), payload.node)
      end
    end
  end
end

-- Heartbeats are read before anything is published: what fails behind a publish has it published again.
for _, payload in pairs(payloads) do
  if payload.node then
    payload.lapsed = tonumber(redis.call('ZSCORE', nodes, payload.node) or 0) <= now_ms
  end
end
local published = 0
for channel, payload in pairs(payloads) do
  if payload.count > 0 then
    -- Not pcall: Redis refuses a publish for the caller's sake (an ACL without the channel), never for the entry's. The
    -- error ends the call, and all that was taken is taken again.
    local heard = redis.call('SPUBLISH', channel, table.concat(payload.lines, '\n'))
    published = published + payload.count
    if payload.node then
      judge_node(payload, heard)
    end
  end
end

---- The call: report, tell, trim ----------------------------------------------------------------------------------------------

-- What is transient is never reported.
local offline_count = 0
local function report(target, seq, opts, reason, frame)
  local expiry = tonumber(opts and string.match(opts, 'exp=(%d+)'))
  if seq and seq ~= '-' and not (expiry and expiry <= now_ms) then
    redis.call('XADD', offline, 'MAXLEN', '~', offline_max, '*',
      'to', target, 'seq', seq, 'reason', reason, 'frame', frame)
    offline_count = offline_count + 1
  end
end

local function report_many(many)
  for i = 1, many.count do
    if many.reasons[i] then
      local target, seq = many.targets[i], string.match(many.numbers[i], '[^,]+$')
      local frame = '{"type":"message","to":"' .. target .. '","seq":' .. seq .. ',' .. many.rest
      report(target, seq, many.opts, many.reasons[i], frame)
    end
  end
end

for number = 1, last_of[done] or 0 do
  local reason = reports[number]
  if reason and wide[number] then
    report_many(wide[number])
  elseif reason then
    local target, seq, opts, frame = string.match(lines[number], '^(%S+) %S+ (%S+) (%S+) (.*)$')
    report(target, seq, opts, reason, frame)
  end
end

for _, message in ipairs(traced) do
  local line, names = lines[message.number], {}
  for i, payload in ipairs(message.payloads) do
    names[i] = payload.node
  end
  local appended = is_fast and taken[message.number][2].appended
  if appended then
    tell(unpack(appended))
  end
  if #message.payloads > 0 then
    tell_line(line, 'dispatched', 'nodes', table.concat(names, ','))
  end
  if reports[message.number] then
    tell_line(line, 'offline', 'why', reports[message.number])
  end
end

for _, fault in ipairs(faults) do
  local fields = taken[fault.at][2]
  keep_dead(taken[fault.at][1], fault.why, fault.text == fields[2] and fields or {'line', fault.text})
end
if done > 1 then
  -- One trim a batch costs less than an XDEL an entry. MINID keeps what it names, hence the XDEL.
  redis.call('XTRIM', stream, 'MINID', '=', taken[done][1])
  redis.call('XGROUP', 'SETID', stream, GROUP, taken[done][1])
end
if done > 0 then
  redis.call('XDEL', stream, taken[done][1])
end
local waited = math.max(0, now_ms - tonumber(string.match(taken[1][1], '^%d+')))
local failed_id, failed_text = '', ''
if last_dead then
  failed_id, failed_text = last_dead.id, last_dead.reason
end
return {#taken, done, published, offline_count, failed_id, failed_text, waited, dead_count, expired_count, moved, more}
