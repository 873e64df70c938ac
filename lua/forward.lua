-- Appends entries to another shard's `in` or `fast`, in order, as the owner of the shard where a producer put them.
--
-- No lease is asked for: anybody may append, and the id that each entry carries makes a repeated one of `in` once. A script all
-- the same, so that they are appended all or none, and also when memory is full: their own shard is emptied by it.
--
-- KEYS[1]  stream   `in` or `fast` of the targets' shard
-- KEYS[2]  pending  hash of the same shard
-- ARGV[1…]          for each entry: how many values follow, then field, value, …
--
-- Returns how many were appended.
-- Errors: none of its own. Cost: O(entries).
--
-- redis-cli --eval lua/forward.lua 'push:{1}:in' 'push:{1}:pending' , 4 to user:alice text hello
local stream, pending = KEYS[1], KEYS[2]

-- A write that Redis allows when memory is full comes first, so that those behind it are allowed too.
redis.call('HDEL', pending, '')

local appended, at = 0, 1
while at <= #ARGV do
  local last = at + tonumber(ARGV[at])
  redis.call('XADD', stream, '*', unpack(ARGV, at + 1, last))
  appended, at = appended + 1, last + 1
end
return appended
