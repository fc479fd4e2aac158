#!lua flags=allow-oom
-- purge: delete dead letters for good, oldest first or by id.
-- KEYS dead letters counters
-- ARGV limit until_ms ids...
-- Returns {purged, dead letters until then that are left}
local ids = {}
for n = 3, #ARGV do ids[#ids + 1] = ARGV[n] end
if #ids == 0 then
  ids = redis.call('ZRANGE', KEYS[1], '-inf', ARGV[2], 'BYSCORE', 'LIMIT', 0, ARGV[1])
end
local purged = 0
for _, id in ipairs(ids) do
  purged = purged + redis.call('ZREM', KEYS[1], id)
  redis.call('HDEL', KEYS[2], id)
end
if purged > 0 then redis.call('HINCRBY', KEYS[3], 'purged', purged) end
return {purged, redis.call('ZCOUNT', KEYS[1], '-inf', ARGV[2])}
