#!lua flags=allow-oom
-- beat: store a process's heartbeat and details; remove some processes that have long been silent.
-- USES clock
-- KEYS beats details
-- ARGV name about forget_ms
-- Returns now_ms
local now = clock()
redis.call('ZADD', beats, string.format('%.0f', now), name)
redis.call('HSET', details, name, about)
local before = string.format('%.0f', now - tonumber(forget_ms))
local silent = redis.call('ZRANGE', beats, '-inf', before, 'BYSCORE', 'LIMIT', 0, 10)
if #silent > 0 then
  redis.call('ZREM', beats, unpack(silent))
  redis.call('HDEL', details, unpack(silent))
end
return now
