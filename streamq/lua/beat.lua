#!lua flags=allow-oom
-- beat: say that a process is alive, and what it is doing; forget some of those that have long been silent.
-- KEYS beats details
-- ARGV name details forget_ms
-- Returns now_ms
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
local before = string.format('%.0f', now - tonumber(ARGV[3]))
local silent = redis.call('ZRANGE', KEYS[1], '-inf', before, 'BYSCORE', 'LIMIT', 0, 10)
if #silent > 0 then
  redis.call('ZREM', KEYS[1], unpack(silent))
  redis.call('HDEL', KEYS[2], unpack(silent))
end
return now
