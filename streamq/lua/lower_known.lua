#!lua flags=allow-oom
-- lower_known: stop serving the last known shard, which was closed in this epoch.
-- KEYS apps
-- ARGV app known epoch control
-- Returns 1, or 0 if the record has changed since
local good, record = pcall(cjson.decode, redis.call('HGET', apps, app) or '')
if not good or type(record) ~= 'table' then return 0 end
local known, epoch = tonumber(known), tonumber(epoch)
if record.known ~= known or (record.epoch or 0) ~= epoch or record.shards >= known then return 0 end
record.known = known - 1
redis.call('HSET', apps, app, cjson.encode(record))
redis.call('PUBLISH', control, 'shards')
return 1
