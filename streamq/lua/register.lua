#!lua flags=allow-oom
-- register: register a task type with the policy that enqueue and the daemon need.
--
-- The policy is never deleted in between: while its slot migrates to another node, it could not be recreated.
-- KEYS types policy
-- ARGV task_type handler options...
-- Returns the handler that was registered before, or ''
local before = redis.call('HGET', policy, 'handler') or ''
redis.call('SADD', types, task_type)
local kept = {handler = true}
redis.call('HSET', policy, 'handler', handler)
for n = first_arg, #ARGV, 2 do
  redis.call('HSET', policy, ARGV[n], ARGV[n + 1])
  kept[ARGV[n]] = true
end
for _, name in ipairs(redis.call('HKEYS', policy)) do
  if not kept[name] then redis.call('HDEL', policy, name) end
end
return before
