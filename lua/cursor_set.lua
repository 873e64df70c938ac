-- Moves cached cursors forward, and never back: what is older than what stands there is passed over.
--
-- KEYS[1…n]     ack    hash of each cursor's user: "<device> <target>" → seq; a user may come more than once
-- ARGV[1]       ttl    life of a hash from now on, ms
-- ARGV[2…2n+1]         field and seq of each cursor, in turn
--
-- Returns how many were moved. A key of another type is left as it is: what stands here is a copy of MongoDB's.
-- Errors: CURSORS when the numbers of keys and arguments do not fit together; whatever Redis has against the caller.
-- Cost: O(cursors).
--
-- redis-cli --eval lua/cursor_set.lua 'push:{0}:ack:alice' , 86400000 'phone user:alice' 1732262400123456
local ttl = tonumber(ARGV[1])
local FIRST_PAIR = 2

if #ARGV ~= 2 * #KEYS + 1 or not ttl then
  return redis.error_reply('CURSORS takes an ack key a cursor, then ttl and for each cursor its field and seq')
end

-- Moves one cursor. Returns 1 when it moved, else 0.
local function move(ack, field, seq)
  local stands = redis.pcall('HGET', ack, field)
  if type(stands) == 'table' then
    if not string.find(tostring(stands.err), 'WRONGTYPE', 1, true) then
      error(stands)
    end
    return 0
  end
  -- 16 digits are below 2^53, so that they are compared exactly.
  local moves = not stands or (tonumber(stands) or -1) < tonumber(seq)
  if moves then
    redis.call('HSET', ack, field, seq)
  end
  redis.call('PEXPIRE', ack, ttl)
  return moves and 1 or 0
end

local moved = 0
for n = 1, #KEYS do
  moved = moved + move(KEYS[n], ARGV[FIRST_PAIR + 2 * (n - 1)], ARGV[FIRST_PAIR + 2 * (n - 1) + 1])
end
return moved
