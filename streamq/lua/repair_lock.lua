#!lua flags=allow-oom
-- repair_lock: release the lock of a unique key that no task holds, or remove a successor that does not exist.
-- USES lock_held unhexed unique_free waits
-- KEYS unique after index schedule counters
-- ARGV group done key
-- Returns how many were repaired
local what = unhexed(key)
if not what then return 0 end

local function follower_is_there()
  local id = redis.call('HGET', after, what)
  local due, number = scheduled(id and (redis.call('HGET', index, id) or id) or '')
  return not id or (waits(due) and row_of(due, number) ~= nil)
end

if lock_held(what, group) then
  if follower_is_there() then return 0 end
  redis.call('HDEL', after, what)
else
  if redis.call('HEXISTS', unique, what) + redis.call('HEXISTS', after, what) == 0 then return 0 end
  unique_free(what)
end
redis.call('HINCRBY', counters, 'repaired', 1)
return 1
