-- Forgets one record if it has expired, or what the indexes still say of one that Redis has dropped. Answers 1 if it did.
-- KEYS: 1 the record, 2 to 6 the bucket's indexes
-- ARGV: 1 now, 2 the visitor
local head = redis.call('GETRANGE', KEYS[1], 0, 37)
if head ~= '' and string.sub(head, 18, 37) >= ARGV[1] then return 0 end
local forgotten = redis.call('DEL', KEYS[1])
for index = 2, 6 do
  if redis.call('ZREM', KEYS[index], ARGV[2]) == 1 then forgotten = 1 end
end
return forgotten
