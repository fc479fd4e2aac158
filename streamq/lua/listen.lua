#!lua flags=allow-oom
-- listen: have the workers publish task events for a while.
-- KEYS tail
-- ARGV tail_ms control
-- Returns 1; if control is not empty the workers are notified at once
redis.call('SET', tail, '1', 'PX', tail_ms)
if control ~= '' then redis.call('PUBLISH', control, 'orders') end
return 1
