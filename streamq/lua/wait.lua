#!lua flags=allow-oom
-- wait: request a message on the task's channel when it ends.
-- USES clock
-- KEYS waiters
-- ARGV local_id wait_ms
-- Returns now_ms
local now = clock()
redis.call('ZADD', waiters, 'GT', string.format('%.0f', now + tonumber(wait_ms)), local_id)
return now
