#!lua flags=allow-oom
-- repair_pending: end a delivery whose entry something else deleted: a dead letter keeps its name.
--
-- While its worker renews the lease it may still settle it, so it is ended only after being idle for a lease.
-- The task was accepted and will never complete: as a dead letter it balances the books (dead + 1).
-- USES clock dead_letter end_task lane_ghost memo_drop priority_of unique_lost vanished flow_claim
-- KEYS stream policy index letters counters
-- ARGV group place id done default_lease_ms
-- Returns ended, held (by a live worker) or gone (nothing left to do)
local entry = string.sub(place, 2)
local held = redis.pcall('XPENDING', stream, group, entry, entry, 1)
if held.err or #held == 0 or #redis.call('XRANGE', stream, entry, entry) > 0 then return 'gone' end
if id ~= place and redis.call('HGET', index, id) ~= place then return 'gone' end
local lease = redis.pcall('HGET', policy, 'lease_ms')
lease = type(lease) == 'string' and tonumber(lease) or tonumber(default_lease_ms)
if held[1][3] < lease then return 'held' end

redis.call('XACK', stream, group, entry)
if redis.call('HEXISTS', letters, id) == 0 then
  local priority = priority_of(string.sub(place, 1, 1))
  dead_letter(id, vanished(id, priority, string.format('%.0f', (clock())), held[1][2]))
  redis.call('HINCRBY', counters, 'dead', 1)
end
end_task(id, 'd')
unique_lost(id)
memo_drop(id)
flow_lost(id)
lane_ghost()
redis.call('HINCRBY', counters, 'repaired', 1)
return 'ended'
