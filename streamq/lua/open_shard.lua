#!lua flags=allow-oom
-- open_shard: take tasks into a shard again that was given up, if that was before the epoch.
-- KEYS closed
-- ARGV epoch
-- Returns the epoch in which it was given up, or -1 where it is open
local closed = tonumber(redis.call('GET', KEYS[1]) or -1)
if closed >= 0 and closed < tonumber(ARGV[1]) then redis.call('DEL', KEYS[1]) end
return closed
