-- Takes a lease unless another owner has it, and reads the record. Answers {1, record or nil} or {0, milliseconds left}.
-- KEYS: 1 the lease, 2 the record
-- ARGV: 1 the owner, 2 the term in milliseconds
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then return {0, redis.call('PTTL', KEYS[1])} end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return {1, redis.call('GET', KEYS[2])}
