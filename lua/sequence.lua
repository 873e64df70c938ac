-- Gives each message of the batch in hand its seq, the next of its target, and remembers it until the batch is in `out`.
--
-- seq = max(given + 1, Redis time in microseconds): above whatever a lost or stale counter gave, and the same again when the
-- batch is tried again, because `pending` remembers it.
--
-- KEYS[1]   lease    string: "<owner> <token>"
-- KEYS[2]   pending  hash: "<target> <id>" → seq
-- KEYS[3]   era      hash: server, era, recovered, taken
-- KEYS[4…]  seq      hash of each target of the batch: given, handed, era
-- ARGV[1]   held     what the lease must say
-- ARGV[2]   idle_ms  life of a seq hash that is begun here, in milliseconds
-- ARGV[3]   era      the era that the caller knows, by number
-- ARGV[4]   floors   for each target: - or the newest seq that MongoDB has of it; separated by spaces
-- ARGV[5]   items    a line for each message, in order: which target (1, 2, …), a space, its field in `pending`
-- ARGV[6]   taken    the last entry of the batch in hand, noted in `era` for whoever takes it again; '' where none of `in` is
--
-- The items are one text, and so are the places: thousands of values one by one cost Redis and the caller more than the work.
--
-- Returns {'lost'} when this Redis is not the one of that era, or the shard has not been recovered in it: it may have forgotten
-- writes, heads among them. Or {'cold', n, …} with the numbers of the targets that have no head of this era and came without a
-- floor: nothing has been given in either case, and the caller comes again with floors. Else {'given', alone, places, n, text, …}:
-- alone is 1 when `pending` held nothing before; places is "prev seq" for each message, separated by spaces; each n is the
-- number of a message whose target's seq key is broken, as the text says, and whose place counts for nothing.
-- Errors: FENCED when the lease is not the caller's. Cost: O(targets + messages).
--
-- redis-cli --eval lua/sequence.lua 'push:{0}:lease:collect' 'push:{0}:pending' 'push:{0}:era' 'push:{0}:seq:user:a' , "$(redis-cli get 'push:{0}:lease:collect')" 604800000 1 0 '1 user:a my-id' ''
local lease, pending, era_key = KEYS[1], KEYS[2], KEYS[3]
local held, idle_ms, era, floors, items, taken = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local FIRST_TARGET = 4

-- Values in one command: unpack fails at 8,000.
local CHUNK = 4000

-- Calls fn with the values in slices that unpack bears.
local function in_slices(values, fn)
  for first = 1, #values, CHUNK do
    fn(unpack(values, first, math.min(first + CHUNK - 1, #values)))
  end
end

-- Names this Redis and its history: a restart and a failover each bring a new name ('-' where INFO is not to be had).
local function server_name()
  local info = redis.pcall('INFO', 'replication')
  return type(info) == 'string' and string.match(info, 'master_replid:(%w+)') or '-'
end

if redis.call('GET', lease) ~= held then
  return redis.error_reply('FENCED the lease is not held by ' .. held)
end
local server, present, recovered = unpack(redis.call('HMGET', era_key, 'server', 'era', 'recovered'))
if server ~= server_name() or present ~= era or recovered ~= era then
  return {'lost'}
end
-- A write that Redis allows when memory is full, so that the ones behind it are allowed too.
redis.call('HDEL', pending, '')

local attempt, find, format = redis.pcall, string.find, string.format

-- Writes a seq. Formatting a double costs as much as a command does for a message, so what stands there as text is taken as it is.
local function text_of(seq, text)
  return text and not find(text, '%D') and text or format('%.0f', seq)
end

-- Of each target what it was given and has last; which are cold; and whose head is not of this era yet, and what it is.
local targets, cold, fresh = {}, {'cold'}, {}
local next_floor = string.gmatch(floors, '%S+')
for n = 1, #KEYS - FIRST_TARGET + 1 do
  local counters = attempt('HMGET', KEYS[FIRST_TARGET + n - 1], 'given', 'handed', 'era')
  -- A key of another type is this target's own trouble; anything else Redis has against the caller, whoever the target.
  if counters.err and not find(tostring(counters.err), 'WRONGTYPE', 1, true) then
    error(counters.err)
  end
  local floor_text = next_floor()
  local floor = tonumber(floor_text)
  if counters.err then
    targets[n] = {broken = counters.err}
  else
    local handed = counters[3] == era and tonumber(counters[2]) or nil
    if not handed and not floor then
      cold[#cold + 1] = n
    end
    local head, head_text = handed or 0, handed and counters[2]
    if floor and floor > head then
      head, head_text = floor, floor_text
    end
    head_text = text_of(head, head_text)
    targets[n] = {given = math.max(tonumber(counters[1]) or 0, head), last = head, last_text = head_text}
    if not handed then
      fresh[#fresh + 1] = {key = KEYS[FIRST_TARGET + n - 1], head = head_text}
    end
  end
end
if #cold > 1 then
  return cold
end

if taken ~= '' then
  redis.call('HSET', era_key, 'taken', taken)
end

local fields, owners = {}, {}
for number, field in string.gmatch(items, '(%d+) ([^\n]+)') do
  fields[#fields + 1] = field
  owners[#fields] = targets[tonumber(number)]
end
local alone = redis.call('HLEN', pending) == 0
local remembered = {}
if not alone then
  in_slices(fields, function(...)
    for _, seq in ipairs(redis.call('HMGET', pending, ...)) do
      remembered[#remembered + 1] = seq
    end
  end)
end

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local now_text = format('%.0f', now)
local reply, places, memory = {'given', alone and 1 or 0, ''}, {}, {}
for i, target in ipairs(owners) do
  if target.broken then
    reply[#reply + 1] = i
    reply[#reply + 1] = target.broken
    places[i] = '0 0'
  else
    local seq_text = remembered[i]
    local seq = tonumber(seq_text)
    -- A remembered seq that is not above what went before it has been taken by somebody else: draw again.
    if not seq or seq <= target.last then
      if target.given < now then
        seq, seq_text = now, now_text
      else
        seq = target.given + 1
        seq_text = format('%.0f', seq)
      end
      memory[#memory + 1] = fields[i]
      memory[#memory + 1] = seq_text
    end
    places[i] = target.last_text .. ' ' .. seq_text
    target.last, target.last_text = seq, seq_text
    target.given = math.max(target.given, seq)
  end
end
in_slices(memory, function(...)
  redis.call('HSET', pending, ...)
end)
for _, target in ipairs(fresh) do
  -- What the target had been given is known from `pending` until append.lua notes it beside the head.
  redis.call('HSET', target.key, 'handed', target.head, 'era', era)
  redis.call('PEXPIRE', target.key, idle_ms)
end
reply[3] = table.concat(places, ' ')
return reply
