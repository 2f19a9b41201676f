-- Removes one record, whatever its version, and tells the others, who may have something of the visitor in memory even if there is no
-- record. Answers 1 if there was one.
-- KEYS: 1 the record, 2 to 6 the bucket's indexes
-- ARGV: 1 the visitor, 2 the channel, 3 the message
local removed = redis.call('DEL', KEYS[1])
for index = 2, 6 do redis.call('ZREM', KEYS[index], ARGV[1]) end
redis.call('PUBLISH', ARGV[2], ARGV[3])
return removed
