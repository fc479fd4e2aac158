#!lua flags=allow-oom
-- pause: have the workers leave a task type alone, or take it up again; enqueue goes on.
--
-- What is paused is kept in `paused`; the message on the control channel only makes it quick.
-- KEYS paused action_log actions
-- ARGV task_type details control action about
-- Returns 1 where that changed something; empty details resume
-- The log of operators' actions has one row an action, however many calls it takes.
local function note(log, rows, action, about, done)
  if action == '' then return end
  local time = redis.call('TIME')
  local stamp = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
  if redis.call('HSETNX', rows, action, stamp .. ' ' .. about) == 1 then
    redis.call('LPUSH', log, action)
    if redis.call('LLEN', log) > 1000 then
      local old = redis.call('RPOP', log)
      redis.call('HDEL', rows, old, old .. '#', old .. '=')
    end
  end
  redis.call('HINCRBY', rows, action .. '#', done)
end
local changed
if details == '' then
  changed = redis.call('HDEL', paused, task_type)
else
  changed = redis.call('HSETNX', paused, task_type, details)
end
redis.call('PUBLISH', control, 'orders')
note(action_log, actions, action, about, changed)
return changed
