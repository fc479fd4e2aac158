#!lua flags=allow-oom
-- close_shard: give up a shard, if it holds nothing that anybody would have to look after.
--
-- From then on enqueue takes nothing into it, until a producer has had it opened. Results stay: they
-- are found by their task's id, and expire. Whoever waits for a task there looks again by himself. What is
-- paused goes by the first shard: a row that stayed here would outlive its resume.
-- For each type, `places` are: schedule, index, dead, cancels, gone, high, normal, low, suspect, waiters,
-- expiring.
-- KEYS closed types paused workers heartbeats places...
-- ARGV epoch types...
-- Returns 1, or 0 where it holds something
local sizes = {[0] = 'ZCARD', 'HLEN', 'ZCARD', 'HLEN', 'ZCARD', 'XLEN', 'XLEN', 'XLEN', 'XLEN'}
if redis.call('SCARD', KEYS[2]) ~= #ARGV - 1 then return 0 end
for n = 2, #ARGV do
  if redis.call('SISMEMBER', KEYS[2], ARGV[n]) == 0 then return 0 end
end
for n = 6, #KEYS do
  local size = sizes[(n - 6) % 11]
  if size and redis.call(size, KEYS[n]) > 0 then return 0 end
end
local before = tonumber(redis.call('GET', KEYS[1]) or -1) or -1
redis.call('DEL', KEYS[3], KEYS[4], KEYS[5])
for n = 15, #KEYS, 11 do redis.call('DEL', KEYS[n], KEYS[n + 1]) end
redis.call('SET', KEYS[1], string.format('%.0f', math.max(before, tonumber(ARGV[1]))))
return 1
