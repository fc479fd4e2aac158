#!lua flags=allow-oom
-- pause: have the workers stop taking a task type, or resume it; enqueue continues.
--
-- The pause is stored in `paused`; the message on the control channel only makes it take effect sooner.
-- USES note
-- KEYS paused
-- ARGV task_type details control action about
-- Returns 1 if that changed something; empty details resume
local changed
if details == '' then
  changed = redis.call('HDEL', paused, task_type)
else
  changed = redis.call('HSETNX', paused, task_type, details)
end
redis.call('PUBLISH', control, 'orders')
note(changed)
return changed
