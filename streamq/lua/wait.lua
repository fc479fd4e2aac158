#!lua flags=allow-oom
-- wait: ask to be told on the task's channel when it ends.
-- KEYS waiters
-- ARGV local_id wait_ms
-- Returns now_ms
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', waiters, 'GT', string.format('%.0f', now + tonumber(wait_ms)), local_id)
return now
