#!lua flags=allow-oom
-- close_shard: give up a shard, if it holds nothing that anybody would have to look after.
--
-- From then on enqueue takes nothing into it, until a producer has had it opened. Results stay: they
-- are found by their task's id, and expire. Whoever waits for a task there looks again by himself. What is
-- paused goes by the first shard: a row that stayed here would outlive its resume.
-- Of each type the keys are those that must be empty, and those that are dropped (see `keys.Kind`).
-- KEYS closed types paused workers heartbeats (high normal low suspect schedule index dead cancels waiters gone expiring lanes turns ripe slots)...
-- ARGV epoch task_types...
-- Returns 1, or 0 where it holds something
local sizes = {
  high = 'XLEN', normal = 'XLEN', low = 'XLEN', suspect = 'XLEN', schedule = 'ZCARD', index = 'HLEN', dead = 'ZCARD',
  cancels = 'HLEN', gone = 'ZCARD', lanes = 'ZCARD'}
if redis.call('SCARD', types) ~= #each then return 0 end
for n = first_arg, #ARGV do
  if redis.call('SISMEMBER', types, ARGV[n]) == 0 then return 0 end
end
for _, of in ipairs(each) do
  for name, size in pairs(sizes) do
    if redis.call(size, of[name]) > 0 then return 0 end
  end
end
local before = tonumber(redis.call('GET', closed) or -1) or -1
redis.call('DEL', paused, workers, heartbeats)
for _, of in ipairs(each) do redis.call('DEL', of.waiters, of.expiring, of.turns, of.ripe, of.slots) end
redis.call('SET', closed, string.format('%.0f', math.max(before, tonumber(epoch))))
return 1
