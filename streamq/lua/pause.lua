#!lua flags=allow-oom
-- pause: have the workers leave a task type alone, or take it up again; enqueue goes on.
--
-- What is paused is kept in `paused`; the message on the control channel only makes it quick.
-- KEYS paused log actions
-- ARGV type details control action about
-- Returns 1 where that changed something; empty details resume
local paused, type_, details = KEYS[1], ARGV[1], ARGV[2]
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
  changed = redis.call('HDEL', paused, type_)
else
  changed = redis.call('HSETNX', paused, type_, details)
end
redis.call('PUBLISH', ARGV[3], 'orders')
note(KEYS[2], KEYS[3], ARGV[4], ARGV[5], changed)
return changed
