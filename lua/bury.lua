-- Moves entries that could not be accepted to the dead-letter stream, whole.
--
-- KEYS[1]  lease   string: "<owner> <token>"
-- KEYS[2]  stream  where the entries are
-- KEYS[3]  dead    stream, capped
-- ARGV[1]  held    what the lease must say
-- ARGV[2]  group   consumer group of `stream`
-- ARGV[3]  max     about how many dead letters are kept
-- ARGV[4…]         for each entry: its id, then the reason in words
--
-- Returns how many were moved; an entry that is gone already is passed over. A dead letter's fields are reason, source (the
-- stream), entry (the id in it), then the entry's own, in order.
-- Errors: FENCED when the lease is not the caller's. Cost: O(entries).
--
-- redis-cli --eval lua/bury.lua 'push:{0}:lease:collect' 'push:{0}:in' 'push:{0}:dead' , "$(redis-cli get 'push:{0}:lease:collect')" collect 10000 1732262400999-0 'by hand'
local lease, stream, dead = KEYS[1], KEYS[2], KEYS[3]
local held, group, max = ARGV[1], ARGV[2], ARGV[3]
local FIRST_ENTRY = 4

-- unpack fails at 8,000 values; an entry with more fields than fit is kept as one JSON array.
local MAX_VALUES = 7000

if redis.call('GET', lease) ~= held then
  return redis.error_reply('FENCED the lease is not held by ' .. held)
end

local moved = 0
for at = FIRST_ENTRY, #ARGV, 2 do
  local id, reason = ARGV[at], ARGV[at + 1]
  -- First, because Redis allows it when memory is full, and the XADD behind it is then allowed too.
  redis.call('XACK', stream, group, id)
  local found = redis.call('XRANGE', stream, id, id)[1]
  if found then
    local fields = found[2]
    if #fields > MAX_VALUES then
      fields = {'fields', cjson.encode(fields)}
    end
    redis.call('XADD', dead, 'MAXLEN', '~', max, '*', 'reason', reason, 'source', stream, 'entry', id, unpack(fields))
    redis.call('XDEL', stream, id)
    moved = moved + 1
  end
end
return moved
