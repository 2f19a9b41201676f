-- Prolongs a lease if its owner still has it. Answers 1 if so.
-- KEYS: 1 the lease
-- ARGV: 1 the owner, 2 the term in milliseconds
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
