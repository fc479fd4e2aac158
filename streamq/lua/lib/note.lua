-- note(done): write the log of operators' actions: one row per action, however many calls it takes.
-- USES clock
-- KEYS action_log actions
-- ARGV action about
local function note(done)
  if action == '' then return end
  if redis.call('HSETNX', actions, action, string.format('%.0f', (clock())) .. ' ' .. about) == 1 then
    redis.call('LPUSH', action_log, action)
    if redis.call('LLEN', action_log) > 1000 then
      local old = redis.call('RPOP', action_log)
      redis.call('HDEL', actions, old, old .. '#', old .. '=')
    end
  end
  redis.call('HINCRBY', actions, action .. '#', done)
end
