#!lua flags=no-writes,allow-stale
-- audit_keys: the type of value of each key, and its remaining life.
-- KEYS keys...
-- ARGV
-- Returns {{type, ms to live, -1 without expiry or -2 if there is no such key}...}
local found = {}
for n, key in ipairs(KEYS) do found[n] = {redis.call('TYPE', key).ok, redis.call('PTTL', key)} end
return found
