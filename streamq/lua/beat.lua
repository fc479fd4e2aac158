#!lua flags=allow-oom
-- beat: say that a worker is alive, and what it is doing.
-- KEYS workers heartbeats
-- ARGV worker details
-- Returns now_ms
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
return now
