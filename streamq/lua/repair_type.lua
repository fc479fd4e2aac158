#!lua flags=allow-oom
-- repair_type: list a task type that holds tasks, so that daemons serve it.
-- KEYS types schedule counters streams...
-- ARGV type
-- Returns how many types were listed
local holds = redis.call('EXISTS', KEYS[2])
for n = 4, #KEYS do holds = holds + redis.call('EXISTS', KEYS[n]) end
if holds == 0 or redis.call('SADD', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('HINCRBY', KEYS[3], 'repaired', 1)
return 1
