#!lua flags=allow-oom
-- forget: remove a task type that holds nothing from a shard: its name, policy, counters and history.
--
-- `kept` is its results keys, as many as ARGV gives, followed by its rollups. The record of a writer's last
-- call stays for its hour: a repeated call must not create a task again.
-- USES note
-- KEYS types paused high normal low suspect schedule dead letters index groups gone waiters cancels policy counters rate buckets sampled expiring unique after steps lanes turns ripe slots limits rules kept...
-- ARGV task_type results drop action about
-- Returns 1, or 0 if it holds a task, a dead letter or, unless they are to be dropped, results
for _, stream in ipairs({high, normal, low, suspect}) do
  if redis.call('XLEN', stream) > 0 then return 0 end
end
if redis.call('ZCARD', schedule) + redis.call('ZCARD', lanes) + redis.call('ZCARD', dead) + redis.call('HLEN', letters) > 0 then return 0 end
for n = first_key, first_key + tonumber(results) - 1 do
  if drop == '0' and redis.call('EXISTS', KEYS[n]) == 1 then return 0 end
end
redis.call('SREM', types, task_type)
redis.call('HDEL', paused, task_type)
redis.call(
  'DEL', high, normal, low, suspect, schedule, dead, letters, index, groups, gone, waiters, cancels, policy, counters,
  rate, buckets, sampled, expiring, unique, after, steps, lanes, turns, ripe, slots, limits, rules)
for n = first_key, #KEYS do redis.call('DEL', KEYS[n]) end
note(1)
return 1
