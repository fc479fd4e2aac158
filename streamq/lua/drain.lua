#!lua flags=allow-oom
-- drain: ask one worker to take no more tasks, finish the running ones and stop.
--
-- The request is kept for a day: a worker's name is never reused.
-- USES note
-- KEYS workers drains
-- ARGV worker control action about
-- Returns 1, or 0 if no such worker sends heartbeats
if not redis.call('ZSCORE', workers, worker) then return 0 end
local asked = redis.call('HSETNX', drains, worker, '1')
redis.call('PEXPIRE', drains, 86400000)
redis.call('PUBLISH', control, 'orders')
note(asked)
return 1
