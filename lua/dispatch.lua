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
-- Contents: looking up and grouping; lines of many; letters for people; the fast lane's rules; the call itself: read and group,
-- publish, report, tell and trim.
--
-- A closure costs a call as much as a message, most of it for the variables from outside that it holds. So what every message
-- passes stands in the call itself; and what few need is made by a `make_…`, which is given all that it needs, for a call that does.
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
-- those taken, are deleted; the last may have found no room, and is the first that the next call finds. The first of those taken had waited for `waited` ms
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
local call, find, sub, byte = redis.call, string.find, string.sub, string.byte

if call('GET', lease) ~= held then
  return redis.error_reply('FENCED the lease is not held by ' .. held)
end

local base = string.match(stream, '^(.*:)')
local time = call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local now_us = time[1] * 1000000 + time[2]

---- Looking up and grouping ---------------------------------------------------------------------------------------------------

-- A payload is what one channel gets: its lines, how many, their bytes, and by place the `numbers` of those that may be reported or
-- traced. `node` is nil where the channel is a topic's or everybody's.
local payloads, payload_of_node = {}, {}
local function begin(channel, node)
  local payload = {channel = channel, node = node, numbers = {}, count = 0, bytes = 0}
  payloads[#payloads + 1] = payload
  if node then
    payload_of_node[node] = payload
  end
  return payload
end

-- Finds the payloads that a target's messages belong to, once a call. Returns a list, or nil and why not.
local payloads_of = {}
local route_key, live_from = base .. 'route:', '(' .. string.format('%.0f', now_ms)
local function look_up(target)
  local found
  if sub(target, 1, 5) == 'user:' and #target > 5 then
    found = redis.pcall('ZRANGEBYSCORE', route_key .. sub(target, 6), live_from, '+inf')
    if found.err then
      -- A key of another type is this user's own trouble; anything else Redis has against the caller, whoever the user.
      if not find(tostring(found.err), 'WRONGTYPE', 1, true) then
        error(found.err)
      end
      return nil, found.err
    end
    for i = 1, #found do
      local node = found[i]
      found[i] = payload_of_node[node] or begin(base .. 'node:' .. node, node)
    end
  elseif target == 'all' or find(target, '^topic:.') then
    found = {begin(base .. target)}
  else
    return nil, 'not a target: ' .. sub(target, 1, 64)
  end
  payloads_of[target] = found
  return found
end

-- Adds a line to payloads, and its number where it may be reported or traced.
local fullest = 0
local function add(line, found, number)
  for i = 1, #found do
    local payload = found[i]
    local place, bytes = payload.count + 1, payload.bytes + #line + 1
    payload[place], payload.count, payload.bytes = line, place, bytes
    if number then
      payload.numbers[place] = number
    end
    if bytes > fullest then
      fullest = bytes
    end
  end
end

-- What is to be reported, by number: the line and why, or what a line of many said.
local reports = {}

---- Lines of many -------------------------------------------------------------------------------------------------------------

-- A line of many stands for as many messages that differ in target, prev and seq alone, and none of them is traced:
--
--   many - - <opts> user:a,<prev>,<seq>,user:b,<prev>,<seq>,… "id":…,"ts":…,"body":…}
--
-- Each node gets one such line, with the places of its own users.
local MANY = 'many'

-- How much of read_max each of its places uses up beside what follows the places, which each has in a frame of its own.
local PLACE_BYTES = 48
local function bytes_of_many(line)
  local _, before = string.find(line, '^many %- %- %S+ ')
  local behind = before and string.find(line, ' ', before + 1, true) or #line
  return (behind - (before or behind)) / PLACE_BYTES * (#line - behind)
end

-- Returns what adds a line of many to the payloads of its users' nodes.
local function make_many(payloads_of, look_up, add, reports, max, publish_max)
  local looked, reportable = 0, 0

  -- Returns what a line of many says, or nil and what is wrong with it.
  local function read(line)
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

  -- Returns how many messages the line stands for; or nil, and why where it is at fault (nothing where it is for the next call).
  return function(number, line)
    local many, err = read(line)
    if not many then
      return nil, err
    end
    local targets, numbers, count = many.targets, many.numbers, many.count
    -- Whoever is offline is reported with a frame: in the worst case as many as there are places.
    local frames = string.sub(numbers[1] or '', 1, 1) == '-' and 0 or count * #many.rest
    if number > 1 and (looked + count > max or reportable + frames > publish_max) then
      return nil
    end
    local parts = {}
    for i = 1, count do
      -- A route that cannot be read is this user's own trouble, and none of the others'.
      local found = payloads_of[targets[i]] or look_up(targets[i]) or {}
      if #found == 0 then
        many.reasons[i], reports[number] = 'no_route', {many = many}
      end
      for _, payload in ipairs(found) do
        local part = parts[payload] or {many = many}
        part[#part + 1] = i
        parts[payload] = part
      end
    end
    local beginning = 'many - - ' .. many.opts .. ' '
    for payload, part in pairs(parts) do
      local of_node = line
      if #part < count then
        local places = {}
        for n, i in ipairs(part) do
          places[n] = targets[i] .. ',' .. numbers[i]
        end
        of_node = beginning .. table.concat(places, ',') .. ' ' .. many.rest
      end
      add(of_node, {payload}, number)
      payload.parts = payload.parts or {}
      payload.parts[payload.count] = part
    end
    looked, reportable = looked + count, reportable + frames
    return count
  end
end

---- Letters for people --------------------------------------------------------------------------------------------------------

-- Returns what writes traces and dead letters, and counts these.
local function make_letters(stream, trace, trace_max, dead, dead_max, owner, now_us)
  local letters = {dead = 0, failed_id = '', failed_text = ''}

  -- Tells that a message was at a stage at a time, in µs. Trace events are for people: one that Redis refuses is left out
  -- (pcall), and nothing else fails for it.
  function letters.tell(id, target, stage, at_us, ...)
    redis.pcall('XADD', trace, 'MAXLEN', '~', trace_max, '*',
      'id', id, 'to', target, 'stage', stage, 'at', string.format('%.0f', at_us), 'by', owner, ...)
  end

  -- Tells of a line that was handed on. `value` is left out where it is ''.
  function letters.tell_line(line, stage, field, value)
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
    letters.tell(id, target, stage, now_us, unpack(more))
  end

  -- unpack fails at 8,000 values; an entry with more fields than fit is kept as one JSON array.
  local MAX_VALUES = 7000

  -- Writes a dead letter: why, where from, and the fields of the entry.
  function letters.keep_dead(id, reason, fields)
    local kept = #fields > MAX_VALUES and {'fields', cjson.encode(fields)} or fields
    redis.call('XADD', dead, 'MAXLEN', '~', dead_max, '*', 'reason', reason, 'source', stream, 'entry', id, unpack(kept))
    letters.dead, letters.failed_id, letters.failed_text = letters.dead + 1, id, reason
  end

  return letters
end

-- Tells whether the opts of a line, whose frame begins behind frame_at, ask for a trace.
local function is_traced(line, frame_at)
  local opts = string.match(string.sub(line, 1, frame_at - 1), '^%S+ %S+ %S+ (%S+)$') or ''
  return string.find(';' .. opts .. ';', ';trace=1;', 1, true) ~= nil
end

---- The fast lane's rules -----------------------------------------------------------------------------------------------------

-- A producer appends to `fast` what is transient, in the shard of its one target, and here the line of it is made:
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
-- Nearly all entries are plain: a target and a body, nothing else. The call itself reads those; whatever it does not take for one,
-- the rules judge. What it takes, they would have made the same of.

-- Returns what reads an entry of `fast`, and what comes of entries that are not published: `read`, `bury`, `expired` and `moved`.
local function make_rules(stream, group, own_shard, shards, body_max, age_max, ttl_max, now_ms, now_us, letters)
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
      letters.tell(message_id, target, 'appended', appended_ms(id) * 1000)
      letters.tell(message_id, target, stage, now_us, 'why', why)
    end
  end

  local rules = {expired = 0, moved = {}}

  -- Moves an entry to the dead-letter stream, now: whatever becomes of the rest of the call, it is done with.
  function rules.bury(id, fields, reason)
    -- First, because Redis allows it when memory is full, and the XADD behind it is then allowed too.
    redis.call('XACK', stream, group, id)
    letters.keep_dead(id, reason, fields)
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
    rules.moved[#rules.moved + 1] = entry
  end

  -- Makes the line of an entry. Returns its target, the line, and what is to be told of it where it is traced; or nil where
  -- nothing is to be published: it broke a rule, came too late or belongs elsewhere.
  function rules.read(id, fields)
    local fault, values, shard, content = judge_entry(fields)
    if fault then
      rules.bury(id, fields, fault)
      return nil
    end
    local ms = appended_ms(id)
    local expires_ms = ms + (values.ttl and math.min(tonumber(values.ttl) * 1000, age_max) or age_max)
    if expires_ms <= now_ms then
      rules.expired = rules.expired + 1
      tell_end(id, fields, 'expired', 'its time was over before dispatch took it')
      return nil
    end
    -- No digest, as collect has it for an inbox that outlives the stream: nobody compares the ids of what is not stored.
    local target, message_id = values.to, values.id or own_shard .. '-' .. id
    if shard ~= own_shard then
      move(fields, shard, message_id, expires_ms - now_ms)
      return nil
    end
    local is_told = values.trace == '1'
    local traced_opt = is_told and ';trace=1' or ''
    local not_opt = values.exclude and ';not=' .. string.gsub(values.exclude, '[%%;=]', QUOTED) or ''
    local line = target .. ' - - exp=' .. string.format('%.0f', expires_ms) .. ';fast=1' .. traced_opt .. not_opt
      .. ' {"type":"message","to":"' .. target .. '","id":"' .. message_id .. '","ts":' .. string.format('%.0f', ms) .. ','
      .. content .. '}'
    local appended = is_told and {message_id, target, 'appended', ms * 1000}
    if is_told and values.traceparent then
      appended[5], appended[6] = 'traceparent', values.traceparent
    end
    return target, line, appended
  end

  return rules
end

---- The call: read and group --------------------------------------------------------------------------------------------------

-- How many times as many entries a read asks for as the one before it, and how many at most. What is read is grouped before more
-- is: so it is still in the processor's caches, and gone before the memory grows.
local READ_GROWTH, READ_MOST = 8, 512

-- All but control bytes: twice as fast as %C, which asks the C library twice about each byte.
local BODY_PLAIN = '^[ -~\128-\255]*$'
local TARGET_PLAIN, TARGET_PLAIN_MAX = '^user:[%w._@-]+$', 128
local SPACE, HYPHEN = 32, 45

-- What of a plain entry's frame is the same for all that was appended in one millisecond. opts_and_to is false where that is too
-- long ago.
local stamp, opts_and_to, ts_and_body
local own_shard = tonumber(string.match(stream, '{(%d+)}'))
local id_of_shard = '","id":"' .. own_shard .. '-'

local taken, done, total, bytes, more = 0, 0, 0, 0, 0
local first_id, last_id, letters, rules, group_many
-- Lines to trace; and what is at fault in `out`, which is buried once its neighbours are published.
local traced, faults = {}, {}
local start, want = '-', math.min(read_first, max)
while want > 0 do
  local entries = call('XRANGE', stream, start, '+', 'COUNT', want)
  local is_last = #entries < want
  if not first_id then
    if #entries == 0 then
      -- A write all the same: a replica has to refuse it, or dispatch would wait there for what is appended elsewhere. It takes
      -- out of the group what was taken through it by an earlier version, and is gone.
      call('XAUTOCLAIM', stream, GROUP, GROUP, 0, '0-0', 'COUNT', 1000, 'JUSTID')
      return {0, 0, 0, 0, '', '', 0, 0, 0, {}, 0}
    end
    first_id = entries[1][1]
    -- The first write: it fails where the group is missing, before anything is done. Redis allows it when memory is full, and
    -- those behind it are then allowed too.
    call('XGROUP', 'SETID', stream, GROUP, first_id)
  end
  for at = 1, #entries do
    local id, fields = entries[at][1], entries[at][2]
    local has_room = true
    taken = taken + 1
    if is_fast then
      local target, body, line, found, appended = fields[2], fields[4], nil, nil, nil
      total = taken
      if #fields == 4 and fields[1] == 'to' and fields[3] == 'body' and #body <= body_max and find(body, BODY_PLAIN) then
        found = payloads_of[target]
        if not found and #target <= TARGET_PLAIN_MAX and find(target, TARGET_PLAIN) then
          found = look_up(target)
        end
        -- Whoever has a route here belongs here: an edge registers it in the user's own shard.
        if found and (shards == 1 or found[1]) then
          local text = sub(id, 1, find(id, '-', 1, true) - 1)
          if text ~= stamp then
            local ms = math.min(tonumber(text), now_ms)
            stamp, ts_and_body = text, string.format('","ts":%.0f,"body":', ms)
            opts_and_to = ms + age_max > now_ms
              and string.format(' - - exp=%.0f;fast=1 {"type":"message","to":"', ms + age_max)
          end
          line = opts_and_to and target .. opts_and_to .. target .. id_of_shard .. id .. ts_and_body .. body .. '}'
        end
      end
      if line then
        bytes = bytes + #target + #body
      else
        for part = 1, #fields do
          bytes = bytes + #fields[part]
        end
        letters = letters or make_letters(stream, trace, trace_max, dead, dead_max, string.match(held, '^%S*'), now_us)
        rules = rules
          or make_rules(stream, GROUP, own_shard, shards, body_max, age_max, ttl_max, now_ms, now_us, letters)
        target, line, appended = rules.read(id, fields)
      end
      -- The first of a call always finds room.
      has_room = not line or fullest == 0 or fullest + #line <= publish_max
      if line and has_room then
        local err
        if not found then
          found, err = payloads_of[target], nil
          if not found then
            found, err = look_up(target)
          end
        end
        if found then
          add(line, found, appended and taken)
          if appended then
            traced[#traced + 1] = {number = taken, line = line, payloads = found, appended = appended}
          end
        else
          rules.bury(id, fields, tostring(err))
        end
      end
    else
      local text = fields[2]
      local from, stop, first = 1, find(text, '\n', 1, true), total + 1
      bytes = bytes + #text
      has_room = fullest == 0 or fullest + #text <= publish_max
      while has_room and from do
        local line = from == 1 and not stop and text or sub(text, from, (stop or 0) - 1)
        local space = find(line, ' ', 1, true)
        local target, err = space and sub(line, 1, space - 1), nil
        local found = payloads_of[target]
        total = total + 1
        if not space then
          err = 'not a payload line'
        elseif target == MANY and line == text then
          local count
          group_many = group_many or make_many(payloads_of, look_up, add, reports, max, publish_max)
          count, err = group_many(total, line)
          has_room, more = count or err, more + (count or 1) - 1
          bytes = bytes + bytes_of_many(line)
        else
          if not found then
            found, err = look_up(target)
          end
          if found then
            add(line, found, total)
            if not found[1] then
              reports[total] = {line = line, reason = 'no_route'}
            end
            -- The frame is the first thing in a line that begins with a brace, and opts that are '-' stand right before it: no
            -- more is looked at of nearly all lines.
            local frame_at = find(line, ' {', space, true)
            if frame_at and (byte(line, frame_at - 1) ~= HYPHEN or byte(line, frame_at - 2) ~= SPACE)
              and is_traced(line, frame_at) then
              traced[#traced + 1] = {number = total, line = line, payloads = found}
            end
          end
        end
        if err then
          faults[#faults + 1] = {id = id, fields = fields, line = line, why = tostring(err)}
        end
        from = stop and stop + 1
        stop = stop and find(text, '\n', from, true)
      end
      if has_room then
        more = more + total - first
      end
    end
    if not has_room then
      is_last = true
      break
    end
    done, last_id = taken, id
    if bytes >= read_max or total >= max then
      is_last = true
      break
    end
  end
  if is_last then
    break
  end
  start = '(' .. last_id
  local fitting = math.ceil((read_max - bytes) * taken / bytes)
  want = math.min(want * READ_GROWTH, READ_MOST, fitting, math.ceil((max - total) * taken / total))
end

---- The call: publish ---------------------------------------------------------------------------------------------------------

-- Heartbeats are read before anything is published: what fails behind a publish has it published again.
for i = 1, #payloads do
  local payload = payloads[i]
  if payload.node then
    payload.lapsed = tonumber(call('ZSCORE', nodes, payload.node) or 0) <= now_ms
  end
end
local published = 0
for i = 1, #payloads do
  local payload = payloads[i]
  if payload.count > 0 then
    -- Not pcall: Redis refuses a publish for the caller's sake (an ACL without the channel), never for the entry's. The
    -- error ends the call, and all that was taken is taken again.
    local heard = call('SPUBLISH', payload.channel, table.concat(payload, '\n'))
    published = published + payload.count
    -- A node is judged by two witnesses. Its routes are always published to; a lapsed heartbeat or an empty house each only adds a
    -- report (a subscriber on a replica hears although the count is 0; a frozen host counts although nobody reads; a Redis that
    -- was paused runs this before the heartbeats that queue behind it). Both together drop the routes.
    if payload.node and (payload.lapsed or heard == 0) then
      local reason = payload.lapsed and 'node_lapsed' or 'nobody_listening'
      for place, number in pairs(payload.numbers) do
        local part = payload.parts and payload.parts[place]
        reports[number] = part and {many = part.many} or {line = payload[place], reason = reason}
        for _, i_of_many in ipairs(part or {}) do
          part.many.reasons[i_of_many] = reason
        end
      end
      if payload.lapsed and heard == 0 then
        for target, found in pairs(payloads_of) do
          for _, other in ipairs(found) do
            if other == payload then
              call('ZREM', route_key .. sub(target, 6), payload.node)
            end
          end
        end
      end
    end
  end
end

---- The call: report, tell, trim ----------------------------------------------------------------------------------------------

local offline_count = 0
if next(reports) then
  -- What is transient is never reported.
  local function report(target, seq, opts, reason, frame)
    local expiry = tonumber(opts and string.match(opts, 'exp=(%d+)'))
    if seq and seq ~= '-' and not (expiry and expiry <= now_ms) then
      call('XADD', offline, 'MAXLEN', '~', offline_max, '*', 'to', target, 'seq', seq, 'reason', reason, 'frame', frame)
      offline_count = offline_count + 1
    end
  end
  for number = 1, total do
    local told = reports[number] or {}
    local many = told.many
    if told.line then
      local target, seq, opts, frame = string.match(told.line, '^(%S+) %S+ (%S+) (%S+) (.*)$')
      report(target, seq, opts, told.reason, frame)
    end
    for i = 1, many and many.count or 0 do
      if many.reasons[i] then
        local target, seq = many.targets[i], string.match(many.numbers[i], '[^,]+$')
        local frame = '{"type":"message","to":"' .. target .. '","seq":' .. seq .. ',' .. many.rest
        report(target, seq, many.opts, many.reasons[i], frame)
      end
    end
  end
end

if traced[1] or faults[1] then
  letters = letters or make_letters(stream, trace, trace_max, dead, dead_max, string.match(held, '^%S*'), now_us)
end
for _, message in ipairs(traced) do
  local names = {}
  for i, payload in ipairs(message.payloads) do
    names[i] = payload.node
  end
  if message.appended then
    letters.tell(unpack(message.appended))
  end
  if #message.payloads > 0 then
    letters.tell_line(message.line, 'dispatched', 'nodes', table.concat(names, ','))
  end
  local told = reports[message.number]
  if told or #message.payloads == 0 then
    letters.tell_line(message.line, 'offline', 'why', told and told.reason or 'no_route')
  end
end
for _, fault in ipairs(faults) do
  letters.keep_dead(fault.id, fault.why, fault.line == fault.fields[2] and fault.fields or {'line', fault.line})
end

if done > 1 then
  -- One trim a batch costs less than an XDEL an entry. MINID keeps what it names, hence the XDEL.
  call('XTRIM', stream, 'MINID', '=', last_id)
  call('XGROUP', 'SETID', stream, GROUP, last_id)
end
if done > 0 then
  call('XDEL', stream, last_id)
end
local waited = math.max(0, now_ms - tonumber(string.match(first_id, '^%d+')))
local failed_id, failed_text, dead_count = '', '', 0
if letters then
  failed_id, failed_text, dead_count = letters.failed_id, letters.failed_text, letters.dead
end
local expired, moved = rules and rules.expired or 0, rules and rules.moved or {}
return {taken, done, published, offline_count, failed_id, failed_text, waited, dead_count, expired, moved, more}
