#!lua flags=allow-oom
-- register: make a task type known, with the policy that enqueue and the daemon need.
-- KEYS types policy
-- ARGV type handler policy...
-- Returns the handler that was registered before, or ''
local before = redis.call('HGET', KEYS[2], 'handler') or ''
redis.call('SADD', KEYS[1], ARGV[1])
redis.call('DEL', KEYS[2])
redis.call('HSET', KEYS[2], 'handler', ARGV[2])
for n = 3, #ARGV, 2 do redis.call('HSET', KEYS[2], ARGV[n], ARGV[n + 1]) end
return before
