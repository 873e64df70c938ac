-- Takes a person out of the next entries of a stream: removes those that are addressed to nobody else.
--
-- Of the others, dead letters and trace events, whose place in the stream means nothing, are replaced by the same without the
-- person. So are lines in `out` that share an entry or are of many: a session that misses one there reads the inbox, or gets it
-- late where it is transient.
-- An entry of `in` is kept: collect has to bring it to its other targets, in its place in their order. One of `fast` is kept too:
-- it breaks a rule, and what is left of it would not.
--
-- KEYS[1] stream    any of a shard's streams: addressed by `to` (comma-separated), or by the first word of each line in `line`, or
--                   the places of a line of many; of `events`, whose first field is `event`, by `user`
-- ARGV[1] target    user:<id>
-- ARGV[2] from      '-', or '(' and the id that a call has returned
-- ARGV[3] until     the last id to look at, or '+'
-- ARGV[4] max       most entries to look at
-- ARGV[5] read_max  about how many bytes to look at
-- ARGV[6] shared    what to do with entries that are addressed to others too: 'keep' or 'replace'
--
-- Returns {last, removed, replaced, kept, last_kept}: the id of the last entry that was looked at, '' at the end; how many were
-- removed, replaced and kept for others; the id of the last of those kept, or ''.
-- Errors: whatever Redis has against the caller. Cost: O(entries looked at).
--
-- redis-cli --eval lua/forget.lua 'push:{0}:dead' , user:alice - + 100 1048576 replace
local stream = KEYS[1]
local target, from, until_id, max = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local read_max, shared = tonumber(ARGV[5]), ARGV[6]

-- Values in one command: unpack fails at 8,000. A dead letter of more is one JSON array (bury.lua), and removed as a whole.
local MAX_VALUES = 7900
local FORGOTTEN = 'it was addressed to a person who has been forgotten'

-- Tells whether `to` names the target, and returns what else it names.
local function without(to)
  local named, others = false, {}
  for part in string.gmatch(to, '[^,]+') do
    -- A dead letter may have died of the white space. In two steps, each of which goes over the text once: one pattern that
    -- trims both ends tries every way to share out a long gap.
    local begin = string.find(part, '%S')
    local one = begin and string.match(part, '^.*%S', begin) or ''
    if one == target then
      named = true
    elseif one ~= '' then
      others[#others + 1] = part
    end
  end
  return named, table.concat(others, ',')
end

-- Tells whether a line of many names the target, and returns the line without it; nil when there is nobody else.
local function without_place(line)
  local head, places, rest = string.match(line, '^(many %- %- %S+ )(%S+)( .*)$')
  local named, others = false, {}
  for other, numbers in string.gmatch(places or '', '([^,]+),([^,]+,[^,]+)') do
    if other == target then
      named = true
    else
      others[#others + 1] = other .. ',' .. numbers
    end
  end
  return named, others[1] and head .. table.concat(others, ',') .. rest or nil
end

-- Tells whether payload lines name the target, and returns those without it; nil when there is nobody else.
local function without_lines(text)
  local named, others = false, {}
  for line in string.gmatch(text, '[^\n]+') do
    local here, left = false, line
    if string.sub(line, 1, #target + 1) == target .. ' ' then
      here, left = true, nil
    elseif string.sub(line, 1, 5) == 'many ' then
      here, left = without_place(line)
    end
    named = named or here
    others[#others + 1] = left
  end
  return named, others[1] and table.concat(others, '\n') or nil
end

-- Tells whether the fields name the target, and returns them without it; nil when there is nobody else.
local function judge(fields)
  local named, rest, alone = false, {}, true
  local of_presence = fields[1] == 'event'
  for at = 1, #fields - 1, 2 do
    local name, value = fields[at], fields[at + 1]
    if type(value) ~= 'string' then
      value = ''
    elseif of_presence and name == 'user' and 'user:' .. value == target then
      return true
    elseif name == 'line' then
      local here, others = without_lines(value)
      named = named or here
      alone = alone and others == nil
      value = others or ''
    elseif name == 'fields' then
      local read, inner = pcall(cjson.decode, value)
      if read and type(inner) == 'table' and judge(inner) then
        return true
      end
    elseif name == 'to' then
      local here, others = without(value)
      named = named or here
      alone = alone and others == ''
      value = others
    end
    rest[at], rest[at + 1] = name, value
  end
  return named, not alone and rest or nil
end

-- Replaces an entry. What is said of it in words may name the person, too.
local function replace(id, fields)
  for at = 1, #fields, 2 do
    local in_words = fields[at] == 'reason' or fields[at] == 'why'
    if in_words and string.find(fields[at + 1], target, 1, true) then
      fields[at + 1] = FORGOTTEN
    end
  end
  -- First, because Redis allows it when memory is full, and the XADD behind it is then allowed too.
  redis.call('XDEL', stream, id)
  redis.call('XADD', stream, '*', unpack(fields))
end

local looked, bytes, last, want = 0, 0, '', 1
local removed, replaced, kept, last_kept = 0, 0, 0, ''
while looked < max and bytes < read_max do
  local entries = redis.call('XRANGE', stream, from, until_id, 'COUNT', want)
  for _, entry in ipairs(entries) do
    local id, fields = entry[1], entry[2]
    last = id
    for _, part in ipairs(fields) do
      bytes = bytes + #part
    end
    local named, rest = judge(fields)
    if named and rest and shared == 'keep' then
      kept, last_kept = kept + 1, id
    elseif named and rest and #rest <= MAX_VALUES then
      replace(id, rest)
      replaced = replaced + 1
    elseif named then
      redis.call('XDEL', stream, id)
      removed = removed + 1
    end
  end
  looked = looked + #entries
  if #entries < want then
    last = ''
    break
  end
  from = '(' .. last
  -- Twice as many the next time, as far as the budget goes for entries like these.
  local fitting = bytes > 0 and math.floor((read_max - bytes) * looked / bytes) or max
  want = math.max(1, math.min(want * 2, fitting, max - looked))
end
return {last, removed, replaced, kept, last_kept}
