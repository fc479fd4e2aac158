-- superseded(id): ask the worker that runs a task to stop it, as cancel does: a newer task takes its place.
-- KEYS cancels counters
-- ARGV task_type wake
local function superseded(id)
  if redis.call('HEXISTS', cancels, id) == 1 then return end
  redis.call('HSET', cancels, id, '1')
  redis.call('HINCRBY', counters, 'superseded', 1)
  -- The channel to workers differs from the one to daemons in this word only, and a task's id has the shard.
  local base, shard, rest = string.match(wake, '^(.*:(%d+)}:)wake(.*)$')
  if not base then return end  -- the worker learns of it when it renews its lease
  redis.call('PUBLISH', base .. 'control' .. rest, 'cancel ' .. task_type .. ':' .. shard .. ':' .. id)
end
