-- Moves a finished batch on in one step: its lines into `out`, its heads forward, its seqs forgotten, its entries
-- acknowledged and trimmed off `in`. Whoever reads Redis sees all of it or nothing.
--
-- KEYS[1]  lease    string: "<owner> <token>"
-- KEYS[2]  in       stream, group `collect`
-- KEYS[3]  out      stream: field `line`
-- KEYS[4]  pending  hash: "<target> <id>" → seq
-- KEYS[5]  era      hash: era
-- KEYS[6…] seq      hash of each target: handed, era
-- ARGV[1]  held     what the lease must say
-- ARGV[2]  trim     '1' when every entry that was taken up to the last one named here is done with, else '0'
-- ARGV[3]  idle_ms  life of a seq hash that is made here, in milliseconds
-- ARGV[4]  n_ids    number of entry ids
-- ARGV[5]  n_lines  number of lines
-- ARGV[6…] head     for each target: its highest seq in this batch
--          id       n_ids entry ids of `in`, ascending
--          line     n_lines payload lines, in order
--          field    the fields of `pending` to forget
--
-- Returns the length of `out`.
-- Errors: FENCED when the lease is not the caller's. Cost: O(lines + ids + fields).
--
-- redis-cli --eval lua/append.lua 'push:{0}:lease:collect' 'push:{0}:in' 'push:{0}:out' 'push:{0}:pending' 'push:{0}:era' , "$(redis-cli get 'push:{0}:lease:collect')" 0 604800000 0 1 'user:a - - - {"type":"message","to":"user:a","id":"1","ts":0,"text":"hi"}'
local lease, intake, out, pending, era_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local held, trim, idle_ms = ARGV[1], ARGV[2] == '1', ARGV[3]
local n_ids, n_lines = tonumber(ARGV[4]), tonumber(ARGV[5])
local FIRST_TARGET, FIRST_HEAD = 6, 6
local n_targets = #KEYS - FIRST_TARGET + 1
local first_id = FIRST_HEAD + n_targets
local first_line = first_id + n_ids
local first_field = first_line + n_lines

-- Values in one command: unpack fails at 8,000.
local CHUNK = 4000

-- Calls fn with ARGV[first] to ARGV[last] in slices that unpack bears.
local function in_slices(first, last, fn)
  for from = first, last, CHUNK do
    fn(unpack(ARGV, from, math.min(from + CHUNK - 1, last)))
  end
end

if redis.call('GET', lease) ~= held then
  return redis.error_reply('FENCED the lease is not held by ' .. held)
end
-- A write that Redis allows when memory is full comes first, so that a full Redis can empty itself.
redis.call('HDEL', pending, '')
in_slices(first_field, #ARGV, function(...)
  redis.call('HDEL', pending, ...)
end)
for at = first_line, first_field - 1 do
  redis.call('XADD', out, '*', 'line', ARGV[at])
end
-- The era that stands there, though Redis may have changed since: a head of an era that is over counts for nothing.
local era = redis.call('HGET', era_key, 'era') or ''
for n = 1, n_targets do
  local key, head = KEYS[FIRST_TARGET + n - 1], ARGV[FIRST_HEAD + n - 1]
  -- A repeated id goes out with the seq it was stored with: a head never goes back for it.
  if tonumber(head) >= (tonumber(redis.call('HGET', key, 'handed')) or 0) then
    -- Both fields are new: so is the key, for sequence.lua has not been at it, as in a recovery.
    if redis.call('HSET', key, 'handed', head, 'era', era) == 2 then
      redis.call('PEXPIRE', key, idle_ms)
    end
  end
end
local acknowledged = 0
in_slices(first_id, first_line - 1, function(...)
  acknowledged = acknowledged + redis.call('XACK', intake, 'collect', ...)
end)
if trim and n_ids > 0 and acknowledged == n_ids then
  -- One trim a batch costs less than an XDEL an entry. MINID keeps what it names, hence the XDEL: the next id cannot be
  -- computed, because a producer may choose ids up to 2^64 and a number of Lua's is exact to 2^53.
  local last = ARGV[first_line - 1]
  redis.call('XTRIM', intake, 'MINID', '=', last)
  redis.call('XDEL', intake, last)
elseif n_ids > 0 then
  -- Not all were pending: Redis has lost the end of the stream since they were taken (a failover), and what stands below the
  -- last of them now may be new.
  in_slices(first_id, first_line - 1, function(...)
    redis.call('XDEL', intake, ...)
  end)
end
return redis.call('XLEN', out)
