-- Reads the next entries of `in` for the holder of its lease, in order.
--
-- What stands in the stream is what is still to be done, oldest first: append.lua and bury.lua delete what they are done with.
-- Nothing is taken through the group, which would have Redis keep a note of every entry and write one to the append-only file.
-- The group's position tells how far collect has come, for people and for router/forget.py; nothing that it has not done stands
-- before it.
--
-- KEYS[1] lease       string: "<owner> <token>"
-- KEYS[2] stream      stream with the consumer group `collect`
-- KEYS[3] era         hash: taken
-- ARGV[1] held        what the lease must say
-- ARGV[2] from        '0' for what may have been in hand before, up to the last entry that sequence.lua noted; '>' for all
-- ARGV[3] max         most entries to take; and about how many targets they may name together, passed by one entry or where
--                     entries suddenly grow: what is taken is brought to its end before anything else
-- ARGV[4] read_first  how many of them to read at first: nobody knows an entry's size before it is read
-- ARGV[5] max_bytes   about how many bytes of fields to take; passed by one entry, or where entries suddenly grow
--
-- Returns {{id, {field, value, …}}, …}.
-- Errors: FENCED when the lease is not the caller's; NOGROUP, from Redis, when stream or group is missing and nothing is taken.
-- Cost: O(entries taken, and the bytes of long lists of targets).
--
-- redis-cli --eval lua/take.lua 'push:{0}:lease:collect' 'push:{0}:in' 'push:{0}:era' , "$(redis-cli get 'push:{0}:lease:collect')" '>' 10 1 65536
local lease, stream, era_key = KEYS[1], KEYS[2], KEYS[3]
local held, from = ARGV[1], ARGV[2]
local max, read_first, max_bytes = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local GROUP = 'collect'

if redis.call('GET', lease) ~= held then
  return redis.error_reply('FENCED the lease is not held by ' .. held)
end

-- A list shorter than this is too short to matter, and is counted as one target.
local LONG = 256

-- How many times as many entries a read asks for as the one before it, and how many at most: where entries suddenly grow, each
-- may be of megabytes.
local READ_GROWTH, READ_MOST = 8, 256

-- Returns the last entry that may have been in hand before; '0' where none was. An earlier version took entries through the
-- group: what it had in hand is what is pending there.
local function last_in_hand()
  local noted = redis.call('HGET', era_key, 'taken') or '0'
  local pending = redis.call('XPENDING', stream, GROUP)[3]
  local is_later = pending and #redis.call('XRANGE', stream, '(' .. noted, pending, 'COUNT', 1) > 0
  return is_later and pending or noted
end

local until_id = from == '>' and '+' or last_in_hand()
local taken, count, bytes, targets, start, want = {}, 0, 0, 0, '-', math.min(read_first, max)
while want > 0 do
  local entries = redis.call('XRANGE', stream, start, until_id, 'COUNT', want)
  for at = 1, #entries do
    local fields = entries[at][2]
    count, targets = count + 1, targets + 1
    taken[count] = entries[at]
    for part = 1, #fields do
      local size = #fields[part]
      bytes = bytes + size
      if size > LONG and fields[part - 1] == 'to' then
        local _, commas = string.gsub(fields[part], ',', '')
        targets = targets + commas
      end
    end
    if targets >= max or bytes >= max_bytes then
      return taken
    end
  end
  if #entries < want then
    break
  end
  start = '(' .. entries[want][1]
  local fitting = math.ceil((max_bytes - bytes) * count / bytes)
  local naming = math.ceil((max - targets) * count / targets)
  want = math.min(want * READ_GROWTH, READ_MOST, fitting, naming, max - count)
end
if count == 0 then
  -- A write all the same: a replica has to refuse it, or collect would wait there for what is appended elsewhere. It takes out
  -- of the group what an earlier version took through it, and is gone.
  redis.call('XAUTOCLAIM', stream, GROUP, GROUP, 0, '0-0', 'COUNT', 1000, 'JUSTID')
  if from == '>' then
    redis.call('XGROUP', 'SETID', stream, GROUP, '$')
  end
end
return taken
