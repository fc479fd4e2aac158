#!lua flags=allow-oom
-- close_shard: close a shard, unless it holds something that still needs attention.
--
-- Afterwards enqueue accepts nothing into it until a producer has it opened. Results stay: they are found by
-- their task's id, and expire. A caller that waits for a task there polls on its own. Pauses are read from
-- the first shard: a row that stayed here would outlive its resume. For each type the keys are those that
-- must be empty, then those that are deleted (see `keys.Kind`).
-- KEYS closed types paused workers heartbeats schedules schedules_due inbox flows flow_names (high normal low suspect schedule index dead cancels waiters gone expiring unique after steps lanes turns ripe slots)...
-- ARGV epoch task_types...
-- Returns 1, or 0 if it holds something
local sizes = {
  high = 'XLEN', normal = 'XLEN', low = 'XLEN', suspect = 'XLEN', schedule = 'ZCARD', index = 'HLEN', dead = 'ZCARD',
  cancels = 'HLEN', gone = 'ZCARD', unique = 'HLEN', after = 'HLEN', steps = 'HLEN', lanes = 'ZCARD'}
if redis.call('SCARD', types) ~= #each then return 0 end
if redis.call('HLEN', schedules) + redis.call('ZCARD', schedules_due) > 0 then return 0 end
if redis.call('ZCARD', inbox) + redis.call('ZCARD', flows) > 0 then return 0 end
for n = first_arg, #ARGV do
  if redis.call('SISMEMBER', types, ARGV[n]) == 0 then return 0 end
end
for _, of in ipairs(each) do
  for name, size in pairs(sizes) do
    if redis.call(size, of[name]) > 0 then return 0 end
  end
end
local before = tonumber(redis.call('GET', closed) or -1) or -1
redis.call('DEL', paused, workers, heartbeats, flow_names)
for _, of in ipairs(each) do redis.call('DEL', of.waiters, of.expiring, of.turns, of.ripe, of.slots) end
redis.call('SET', closed, string.format('%.0f', math.max(before, tonumber(epoch))))
return 1
