#!lua flags=allow-oom
-- dismiss: take a dead worker off the list before its row is removed by age.
--
-- Its deliveries and consumers stay: the daemon gives those to others. One whose last heartbeat is later than
-- the caller's view lives, and stays.
-- USES note
-- KEYS workers heartbeats
-- ARGV worker seen_ms action about
-- Returns 1, 0 if no such worker is listed, or -1 if it lives
local beat = tonumber(redis.call('ZSCORE', workers, worker) or '')
if not beat then return 0 end
if beat > tonumber(seen_ms) then return -1 end
redis.call('ZREM', workers, worker)
redis.call('HDEL', heartbeats, worker)
note(1)
return 1
