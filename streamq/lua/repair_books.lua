#!lua flags=allow-oom
-- repair_books: write off missing (`vanished`) or surplus (`adopted`) tasks, if the number is as expected.
--
-- Records in the counters that something else removed or added tasks; changes no task.
-- KEYS schedule dead counters high normal low suspect lanes
-- ARGV imbalance
-- Returns the tasks written off, or 0 if the books have changed since
local have = {}
local flat = redis.call('HGETALL', counters)
for n = 1, #flat, 2 do have[flat[n]] = tonumber(flat[n + 1]) end
local function counted(name) return have[name] or 0 end
local missing = counted('accepted') + counted('adopted') - redis.call('ZCARD', schedule) - redis.call('ZCARD', dead)
  - redis.call('ZCARD', lanes)
for _, stream in ipairs({high, normal, low, suspect}) do missing = missing - redis.call('XLEN', stream) end
for _, name in ipairs({'completed', 'cancelled', 'expired', 'purged', 'vanished'}) do
  missing = missing - counted(name)
end
if missing == 0 or missing ~= tonumber(imbalance) then return 0 end
redis.call('HINCRBY', counters, missing > 0 and 'vanished' or 'adopted', math.abs(missing))
redis.call('HINCRBY', counters, 'repaired', 1)
return missing
