-- Takes the next entries of a stream for the holder of its lease, in order.
--
-- The check and the reading are one step. A blocking XREADGROUP would not do: one sent by an owner that has lost its lease
-- still stands in Redis, and would swallow entries that its successor, reading under the same consumer name, never sees.
--
-- KEYS[1] lease      string: "<owner> <token>"
-- KEYS[2] stream     stream with the consumer group
-- ARGV[1] held       what the lease must say
-- ARGV[2] group      consumer group; also the consumer's name, since a shard has one consumer
-- ARGV[3] from       '0' for entries taken before and not acknowledged, '>' for new ones
-- ARGV[4] max        most entries to take; and about how many targets they may name together, passed by one entry or where
--                    entries suddenly grow: what is taken is brought to its end before anything else
-- ARGV[5] max_bytes  about how many bytes of fields to take; passed by one entry, or where entries suddenly grow
--
-- Returns {{id, {field, value, …}}, …}. A pending entry that has been deleted from the stream is acknowledged and left out.
-- Errors: FENCED when the lease is not the caller's; NOGROUP, from Redis, when stream or group is missing.
-- Cost: O(entries taken, and the bytes of long lists of targets).
--
-- redis-cli --eval lua/take.lua 'push:{0}:lease:collect' 'push:{0}:in' , "$(redis-cli get 'push:{0}:lease:collect')" collect '>' 10 65536
local lease, stream = KEYS[1], KEYS[2]
local held, group, from = ARGV[1], ARGV[2], ARGV[3]
local max, max_bytes = tonumber(ARGV[4]), tonumber(ARGV[5])

if redis.call('GET', lease) ~= held then
  return redis.error_reply('FENCED the lease is not held by ' .. held)
end

-- A list shorter than this is too short to matter, and is counted as one target.
local LONG = 256

-- How many are asked for at once at most: where entries suddenly grow, each may be of megabytes.
local WANT_MOST = 256

local taken, bytes, targets, start, want = {}, 0, 0, from, 1
while targets < max and bytes < max_bytes do
  local reply = redis.call('XREADGROUP', 'GROUP', group, group, 'COUNT', want, 'STREAMS', stream, start)
  local entries = reply and reply[1][2] or {}
  for _, entry in ipairs(entries) do
    local id, fields = entry[1], entry[2]
    if fields then
      taken[#taken + 1] = entry
      targets = targets + 1
      for at = 1, #fields do
        local part = fields[at]
        bytes = bytes + #part
        if #part > LONG and fields[at - 1] == 'to' then
          local _, commas = string.gsub(part, ',', '')
          targets = targets + commas
        end
      end
    else
      redis.call('XACK', stream, group, id)
    end
    if from ~= '>' then
      start = id
    end
  end
  if #entries < want then
    break
  end
  -- Twice as many the next time, as far as the budget goes for entries like these: nobody knows an entry's size before.
  local fitting = bytes > 0 and math.floor((max_bytes - bytes) * #taken / bytes) or max
  local naming = targets > 0 and math.floor((max - targets) * #taken / targets) or max
  want = math.max(1, math.min(want * 2, WANT_MOST, fitting, naming))
end
return taken
