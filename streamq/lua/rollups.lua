#!lua flags=no-writes,allow-stale
-- rollups: read several rollups at once.
-- KEYS rollups...
-- ARGV
-- Returns {{field, number...}...}
local found = {}
for n, key in ipairs(KEYS) do found[n] = redis.call('HGETALL', key) end
return found
