-- Compare-and-set of one record, with its expiry, its place in the indexes and the news of it.
-- KEYS: 1 the record, 2 the bucket's version clock, 3 to 7 the bucket's indexes in the order of the states
-- ARGV: 1 the expected version or '', 2 now, 3 the writer's nonce (5 digits), 4 expires_at, 5 the state, 6 the sealed bytes,
--       7 milliseconds until Redis may drop the record or '', 8 the visitor, 9 the channel, 10 the message
-- Answers {1, version} if it wrote, {0, the version that a reader would find or ''} if not.
local head = redis.call('GETRANGE', KEYS[1], 0, 37)
local version, expires_at, state = '', '', ''
if head ~= '' then
  if #head ~= 38 or string.sub(head, 1, 1) ~= '1' then
    return redis.error_reply('ERR the key holds no record of this version of the sidecar')
  end
  version = string.sub(head, 2, 17)
  expires_at = string.sub(head, 18, 37)
  state = string.sub(head, 38, 38)
end

local current = ''
if version ~= '' and expires_at >= ARGV[2] then current = version end

-- Whoever names the very version may write, even if it has expired; whoever expects none may if a reader would find none.
local admitted = (ARGV[1] == '' and current == '') or (ARGV[1] ~= '' and ARGV[1] == version)
if not admitted then
  -- A retry may meet the write of its first attempt. Then it is done once more, under the same version, so that whoever
  -- waits for replicas waits for something.
  local own = string.sub(version, 12, 16) == ARGV[3]
    and redis.call('GETRANGE', KEYS[1], 38, -1) == ARGV[6]
  if not own then return {0, current} end
else
  -- Never a version that this bucket has given, though records be removed and clocks set back. Where a failover has lost
  -- the bucket's clock too, the server's time and the nonce keep versions apart.
  local time = redis.call('TIME')
  local ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
  local last = tonumber(redis.call('GET', KEYS[2]) or '0')
  if ms <= last then ms = last + 1 end
  redis.call('SET', KEYS[2], string.format('%.0f', ms))
  -- 44 bits of time, 20 bits of nonce; in two parts, since not every Lua formats more than 32 bits.
  version = string.format('%05x%06x', math.floor(ms / 16777216), ms % 16777216) .. ARGV[3]
end

local value = '1' .. version .. ARGV[4] .. ARGV[5] .. ARGV[6]
if ARGV[7] == '' then
  redis.call('SET', KEYS[1], value)
else
  redis.call('SET', KEYS[1], value, 'PX', ARGV[7])
end
-- A record that Redis has dropped is still in the index of a state that we cannot know.
for index = 0, 4 do
  local other = tostring(index)
  if other ~= ARGV[5] and (other == state or state == '') then
    redis.call('ZREM', KEYS[3 + index], ARGV[8])
  end
end
redis.call('ZADD', KEYS[3 + tonumber(ARGV[5])], ARGV[4], ARGV[8])
redis.call('PUBLISH', ARGV[9], ARGV[10])
return {1, version}
