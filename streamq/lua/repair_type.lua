#!lua flags=allow-oom
-- repair_type: list a task type that holds tasks, so that daemons serve it.
-- KEYS types schedule counters high normal low suspect lanes
-- ARGV task_type
-- Returns how many types were listed
local holds = redis.call('EXISTS', schedule, lanes, high, normal, low, suspect)
if holds == 0 or redis.call('SADD', types, task_type) == 0 then return 0 end
redis.call('HINCRBY', counters, 'repaired', 1)
return 1
