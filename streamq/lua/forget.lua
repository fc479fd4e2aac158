#!lua flags=allow-oom
-- forget: remove a task type that holds nothing from a shard: its name, policy, counters and history.
--
-- `kept` are its results, of which there are as many as ARGV says, and then its rollups. What a writer's last
-- call was stays for its hour: a call that is repeated must not make a task again.
-- USES note
-- KEYS types paused log actions high normal low suspect schedule dead letters index groups gone waiters cancels policy counters rate buckets sampled expiring kept...
-- ARGV type results drop action about
-- Returns 1, or 0 where it holds a task, a dead letter or, unless these are to be dropped, results
local sizes = {'XLEN', 'XLEN', 'XLEN', 'XLEN', 'ZCARD', 'ZCARD', 'HLEN'}
for n, size in ipairs(sizes) do
  if redis.call(size, KEYS[4 + n]) > 0 then return 0 end
end
for n = 23, 22 + tonumber(ARGV[2]) do
  if ARGV[3] == '0' and redis.call('EXISTS', KEYS[n]) == 1 then return 0 end
end
redis.call('SREM', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
for n = 5, #KEYS do redis.call('DEL', KEYS[n]) end
note(KEYS[3], KEYS[4], ARGV[4], ARGV[5], 1)
return 1
