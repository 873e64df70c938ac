-- Makes a consumer group that begins with the oldest entry, and the stream if there is none.
--
-- A script only for what stands first in it: Redis refuses XGROUP CREATE by itself when memory is full, and a stream that was
-- filled before its reader first came could then never be emptied.
--
-- KEYS[1]  stream
-- ARGV[1]  group
--
-- Returns 1 when it was made, 0 when it stood there already.
-- Errors: none of its own. Cost: O(1).
--
-- redis-cli --eval lua/group_make.lua 'push:{0}:in' , collect
local stream, group = KEYS[1], ARGV[1]

-- A write that Redis allows when memory is full: no entry has this id.
redis.call('XDEL', stream, '0-1')
local made = redis.pcall('XGROUP', 'CREATE', stream, group, '0', 'MKSTREAM')
if made.err then
  if not string.find(tostring(made.err), 'BUSYGROUP', 1, true) then
    error(made.err)
  end
  return 0
end
return 1
