#!lua flags=allow-oom
-- open_shard: take tasks into a shard again that was given up, if that was before the epoch.
-- KEYS closed
-- ARGV epoch
-- Returns the epoch in which it was given up, or -1 where it is open
local since = tonumber(redis.call('GET', closed) or -1)
if since >= 0 and since < tonumber(epoch) then redis.call('DEL', closed) end
return since
