#!lua flags=no-writes,allow-stale
-- audit_keys: what kind of value each key holds, and how long it is kept.
-- KEYS keys...
-- ARGV
-- Returns {{type, ms to live, -1 for ever or -2 where there is no such key}...}
local found = {}
for n, key in ipairs(KEYS) do found[n] = {redis.call('TYPE', key).ok, redis.call('PTTL', key)} end
return found
