-- Moves a finished batch on in one step: its lines into `out`, its heads forward, its seqs forgotten, its entries off `in`.
-- Whoever reads Redis sees all of it or nothing.
--
-- KEYS[1]  lease    string: "<owner> <token>"
-- KEYS[2]  in       stream; the position of its group `collect` follows what is done
-- KEYS[3]  out      stream: field `line`, one or more payload lines separated by newlines
-- KEYS[4]  pending  hash: "<target> <id>" → seq
-- KEYS[5]  era      hash: era
-- KEYS[6…] seq      hash of each target: given, handed, era
-- ARGV[1]  held     what the lease must say
-- ARGV[2]  trim     '1' when every entry that was taken up to the last one named here is done with, else '0'
-- ARGV[3]  idle_ms  life of a seq hash, in milliseconds; begun anew by the first batch in each quarter of it
-- ARGV[4]  heads    for each target: the head that sequence.lua told, and its highest seq in this batch, above it; or - and that
--                   seq, which then counts only where it is above the head. Separated by spaces
-- ARGV[5]  ids      entry ids of `in`, ascending, separated by spaces
-- ARGV[6]  lines    payload lines, in order, separated by newlines, as they hold none
-- ARGV[7]  fields   the fields of `pending` to forget, separated by newlines; or * for all there are
--
-- Each list is one text: thousands of values one by one cost Redis and the caller more than the work.
--
-- Returns the length of `out`, in entries.
-- Errors: FENCED when the lease is not the caller's. Cost: O(lines + ids + fields).
--
-- redis-cli --eval lua/append.lua 'push:{0}:lease:collect' 'push:{0}:in' 'push:{0}:out' 'push:{0}:pending' 'push:{0}:era' , "$(redis-cli get 'push:{0}:lease:collect')" 0 604800000 '' '' 'user:a - - - {"type":"message","to":"user:a","id":"1","ts":0,"text":"hi"}' ''
local lease, intake, out, pending, era_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local held, trim, idle_ms = ARGV[1], ARGV[2] == '1', ARGV[3]
local heads, id_list, lines, field_list = ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local FIRST_TARGET = 6

-- Values in one command: unpack fails at 8,000.
local CHUNK = 4000

-- What an entry of `out` carries at most, unless one line alone is longer.
local ENTRY_LINES, ENTRY_BYTES = 32, 32768

-- An entry's id has two numbers of 64 bits and a hyphen between them.
local ID_MAX_BYTES = 41

-- Returns the parts of a text.
local function parts_of(text, pattern)
  local parts = {}
  for part in string.gmatch(text, pattern) do
    parts[#parts + 1] = part
  end
  return parts
end

-- Calls fn with the values in slices that unpack bears.
local function in_slices(values, fn)
  for first = 1, #values, CHUNK do
    fn(unpack(values, first, math.min(first + CHUNK - 1, #values)))
  end
end

if redis.call('GET', lease) ~= held then
  return redis.error_reply('FENCED the lease is not held by ' .. held)
end
-- A write that Redis allows when memory is full comes first, so that a full Redis can empty itself.
redis.call('HDEL', pending, '')
if field_list == '*' then
  redis.call('DEL', pending)
else
  in_slices(parts_of(field_list, '[^\n]+'), function(...)
    redis.call('HDEL', pending, ...)
  end)
end

-- An entry costs more than a line, so lines share entries. `count` of them stand from `first_at` to before `from`. A line of many,
-- the only one that begins with an m, has an entry of its own.
local function put(first, last)
  redis.call('XADD', out, '*', 'line', string.sub(lines, first, last))
end
local LETTER_M = string.byte('m')
local first_at, from, count = 1, 1, 0
while from <= #lines do
  local stop = string.find(lines, '\n', from, true) or #lines + 1
  local is_many = string.byte(lines, from) == LETTER_M
  if count > 0 and (is_many or count == ENTRY_LINES or stop - first_at > ENTRY_BYTES) then
    put(first_at, from - 2)
    first_at, count = from, 0
  end
  count = is_many and ENTRY_LINES or count + 1
  from = stop + 1
end
if count > 0 then
  put(first_at, #lines)
end

-- The era that stands there, though Redis may have changed since: a head of an era that is over counts for nothing.
local era
local function begin(key, head)
  era = era or redis.call('HGET', era_key, 'era') or ''
  return redis.call('HSET', key, 'handed', head, 'era', era)
end
-- In microseconds, as seqs are.
local quarter = idle_ms * 1000 / 4
local n = FIRST_TARGET
for before, head in string.gmatch(heads, '(%S+) (%S+)') do
  local key = KEYS[n]
  n = n + 1
  if before ~= '-' then
    local was, is = tonumber(before), tonumber(head)
    local made = redis.call('HSET', key, 'given', head, 'handed', head)
    -- The first message of a target makes `given`, and so does Redis when it has lost the key since.
    if made > 0 then
      begin(key, head)
    end
    if made > 0 or math.floor(was / quarter) ~= math.floor(is / quarter) then
      redis.call('PEXPIRE', key, idle_ms)
    end
  elseif tonumber(head) >= (tonumber(redis.call('HGET', key, 'handed')) or 0) then
    -- Both fields are new: so is the key, for sequence.lua has not been at it, as in a recovery.
    if begin(key, head) == 2 then
      redis.call('PEXPIRE', key, idle_ms)
    end
  end
end

local last = string.match(string.sub(id_list, -ID_MAX_BYTES), '%S+$')
if trim and last and redis.call('XDEL', intake, last) == 1 then
  -- One trim a batch costs less than an XDEL an entry. MINID keeps what it names, hence the XDEL; and that has told that the
  -- last of them still stood there, so that what stands before it was taken: ids only rise.
  redis.call('XTRIM', intake, 'MINID', '=', last)
  -- Where the group is missing, take.lua has it made.
  redis.pcall('XGROUP', 'SETID', intake, 'collect', last)
elseif last then
  -- With trim, Redis has lost the end of the stream since they were taken (a failover), and what stands below the last of them
  -- now may be new.
  in_slices(parts_of(id_list, '%S+'), function(...)
    redis.call('XDEL', intake, ...)
  end)
end
return redis.call('XLEN', out)
