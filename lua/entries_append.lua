-- Appends a producer's entries to a stream, in order and all or none, unless too much waits in it.
--
-- One call instead of a pipeline of XADDs: nobody else's entry comes between them, a full memory refuses all of them, and a
-- driver writes and reads one command.
--
-- KEYS[1]  stream  where the entries go
-- ARGV[1]  most    the high-water mark: nothing is appended while this many entries wait in the stream, or more
-- ARGV[2…]         for each entry: how many values follow, then field, value, …
--
-- Returns the entries' ids in order; or the length of the stream, a number, when it is at its mark.
-- Errors: OOM when memory is full. Cost: O(entries).
--
-- redis-cli --eval lua/entries_append.lua 'push:{0}:in' , 100000 4 to user:alice text hello
local stream = KEYS[1]
local most = tonumber(ARGV[1])
local FIRST_ENTRY = 2

local length = redis.call('XLEN', stream)
if length >= most then
  return length
end

local ids, at = {}, FIRST_ENTRY
while at <= #ARGV do
  local last = at + tonumber(ARGV[at])
  ids[#ids + 1] = redis.call('XADD', stream, '*', unpack(ARGV, at + 1, last))
  at = last + 1
end
return ids
