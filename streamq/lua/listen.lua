#!lua flags=allow-oom
-- listen: have the workers tell what happens to tasks, for a while.
-- KEYS tail
-- ARGV tail_ms control
-- Returns 1; where control is not empty the workers are told at once
redis.call('SET', KEYS[1], '1', 'PX', ARGV[1])
if ARGV[2] ~= '' then redis.call('PUBLISH', ARGV[2], 'orders') end
return 1
