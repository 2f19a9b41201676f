-- Ends a lease if its owner has it, and tells the others. Answers 1 if so.
-- KEYS: 1 the lease
-- ARGV: 1 the owner, 2 the channel, 3 the message
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
redis.call('PUBLISH', ARGV[2], ARGV[3])
return 1
