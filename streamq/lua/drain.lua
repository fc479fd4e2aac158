#!lua flags=allow-oom
-- drain: ask one worker to take no more tasks, finish those in hand and end.
--
-- The request is kept for a day: the name of a worker is never used again.
-- KEYS workers drains action_log actions
-- ARGV worker control action about
-- Returns 1, or 0 where no such worker sends heartbeats
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
if not redis.call('ZSCORE', workers, worker) then return 0 end
local asked = redis.call('HSETNX', drains, worker, '1')
redis.call('PEXPIRE', drains, 86400000)
redis.call('PUBLISH', control, 'orders')
note(action_log, actions, action, about, asked)
return 1
