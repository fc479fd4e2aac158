#!lua flags=allow-oom
-- register: make a task type known, with the policy that enqueue and the daemon need.
--
-- The policy is never gone in between: while its slot moves to another node, it could not come back.
-- KEYS types policy
-- ARGV type handler policy...
-- Returns the handler that was registered before, or ''
local before = redis.call('HGET', KEYS[2], 'handler') or ''
redis.call('SADD', KEYS[1], ARGV[1])
local kept = {handler = true}
redis.call('HSET', KEYS[2], 'handler', ARGV[2])
for n = 3, #ARGV, 2 do
  redis.call('HSET', KEYS[2], ARGV[n], ARGV[n + 1])
  kept[ARGV[n]] = true
end
for _, name in ipairs(redis.call('HKEYS', KEYS[2])) do
  if not kept[name] then redis.call('HDEL', KEYS[2], name) end
end
return before
