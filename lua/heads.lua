-- Tells the heads of some targets: the last seq of each that was handed to dispatch.
--
-- KEYS[1]     era  hash: server, era
-- KEYS[2…n+1] seq  hash of each target: handed (the head), era
--
-- Returns the number of the era ('' where there is none: Redis has restarted or failed over, and collect has not begun another
-- one yet), then each head, 1 to 16 digits; '' where there is no counter of this era, or a key that is none of ours: MongoDB
-- knows then.
-- Errors: whatever Redis has against the caller.
-- Cost: O(targets).
--
-- redis-cli --eval lua/heads.lua 'push:{0}:era' 'push:{0}:seq:topic:news' 'push:{0}:seq:all'
local HEAD_MAX_DIGITS = 16

-- Names this Redis and its history: a restart and a failover each bring a new name ('-' where INFO is not to be had).
local function server_name()
  local info = redis.pcall('INFO', 'replication')
  return type(info) == 'string' and string.match(info, 'master_replid:(%w+)') or '-'
end

local server, era = unpack(redis.call('HMGET', KEYS[1], 'server', 'era'))
if server ~= server_name() then
  era = nil
end

local reply = {era or ''}
for n = 2, #KEYS do
  local counters = redis.pcall('HMGET', KEYS[n], 'handed', 'era')
  if counters.err and not string.find(tostring(counters.err), 'WRONGTYPE', 1, true) then
    return counters
  end
  local head = not counters.err and era and counters[2] == era and counters[1] or ''
  reply[n] = #head <= HEAD_MAX_DIGITS and string.find(head, '^%d+$') and head or ''
end
return reply
