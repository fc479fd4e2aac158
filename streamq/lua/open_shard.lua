#!lua flags=allow-oom
-- open_shard: reopen a closed shard, if it was closed before the epoch.
-- KEYS closed
-- ARGV epoch
-- Returns the epoch in which it was closed, or -1 if it is open
local since = tonumber(redis.call('GET', closed) or -1)
if since >= 0 and since < tonumber(epoch) then redis.call('DEL', closed) end
return since
