#!lua flags=allow-oom
-- wait: ask to be told on the task's channel when it ends.
-- KEYS waiters
-- ARGV local_id wait_ms
-- Returns now_ms
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], 'GT', string.format('%.0f', now + tonumber(ARGV[2])), ARGV[1])
return now
