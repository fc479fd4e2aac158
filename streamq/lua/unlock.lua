#!lua flags=allow-oom
-- unlock: free the lock of a unique key if its task does not exist, or with `force` in any case.
--
-- The task that follows the holder gets the lock and becomes ready.
-- USES lock_held note unhexed unique_free
-- KEYS unique after index schedule
-- ARGV group done key force action about
-- Returns {freed, held or free, the local id of the holder or ''}
local what = unhexed(key)
local id = what and redis.call('HGET', unique, what)
if not id then return {'free', ''} end
if force ~= '1' and lock_held(what, group) then return {'held', id} end
unique_free(what)
note(1)
return {'freed', id}
