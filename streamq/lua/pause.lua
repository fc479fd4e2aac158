#!lua flags=allow-oom
-- pause: have the workers leave a task type alone, or take it up again; enqueue goes on.
--
-- What is paused is kept in `paused`; the message on the control channel only makes it quick.
-- USES note
-- KEYS paused
-- ARGV task_type details control action about
-- Returns 1 where that changed something; empty details resume
local changed
if details == '' then
  changed = redis.call('HDEL', paused, task_type)
else
  changed = redis.call('HSETNX', paused, task_type, details)
end
redis.call('PUBLISH', control, 'orders')
note(changed)
return changed
