#!lua flags=allow-oom
-- trim: forget old ends (cancelled, expired), waiters whose time is over and workers long silent.
--
-- Lists know of results for eight days; a result that is kept for longer is found by its id.
-- KEYS gone waiters workers heartbeats buckets
-- ARGV gone_ms silent_ms limit
-- Returns how many rows were removed
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local limit = ARGV[3]
local removed = 0

local function old(key, before)
  return redis.call('ZRANGE', key, '-inf', string.format('%.0f', before), 'BYSCORE', 'LIMIT', 0, limit)
end

local function remove(key, members)
  if #members > 0 then removed = removed + redis.call('ZREM', key, unpack(members)) end
end

remove(KEYS[1], old(KEYS[1], now - tonumber(ARGV[1])))
remove(KEYS[2], old(KEYS[2], now))
local silent = old(KEYS[3], now - tonumber(ARGV[2]))
remove(KEYS[3], silent)
if #silent > 0 then redis.call('HDEL', KEYS[4], unpack(silent)) end
redis.call('ZREMRANGEBYSCORE', KEYS[5], '-inf', math.floor(now / 60000) - 11520)
return removed
