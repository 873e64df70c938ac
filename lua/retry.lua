-- Appends the entry of a dead letter to its stream again, and takes the letter away, both or neither.
--
-- No lease is asked for: anybody may append. The caller gives the fields, because it may have mended one.
--
-- KEYS[1]  dead    stream, capped
-- KEYS[2]  stream  where the entry came from, of the same shard
-- ARGV[1]  letter  id of the dead letter
-- ARGV[2…]         field and value of the entry, in turn
--
-- Returns the id of the new entry, or '' when the letter is gone: it was retried or dropped before, or made room for others.
-- Errors: none of its own; what Redis refuses leaves the letter where it is. Cost: O(fields).
--
-- redis-cli --eval lua/retry.lua 'push:{0}:dead' 'push:{0}:in' , 1732262400999-0 to user:alice text 'by hand'
local dead, stream = KEYS[1], KEYS[2]
local letter = ARGV[1]
local FIRST_FIELD = 2

if #redis.call('XRANGE', dead, letter, letter) == 0 then
  return ''
end
-- A write that Redis allows when memory is full (no entry has this id): what comes back to the stream leaves `dead`.
redis.call('XDEL', dead, '0-1')
local entry = redis.call('XADD', stream, '*', unpack(ARGV, FIRST_FIELD))
redis.call('XDEL', dead, letter)
return entry
