#!lua flags=allow-oom
-- repair_books: write off what is missing (`vanished`) or too many (`adopted`), if it is as much as known.
--
-- Says in the counters that something else took tasks away or put some in; changes no task.
-- KEYS schedule dead counters streams...
-- ARGV imbalance
-- Returns the tasks written off, or 0 where the books say something else by now
local have = {}
local flat = redis.call('HGETALL', KEYS[3])
for n = 1, #flat, 2 do have[flat[n]] = tonumber(flat[n + 1]) end
local function counted(name) return have[name] or 0 end
local missing = counted('accepted') + counted('adopted') - redis.call('ZCARD', KEYS[1]) - redis.call('ZCARD', KEYS[2])
for n = 4, #KEYS do missing = missing - redis.call('XLEN', KEYS[n]) end
for _, name in ipairs({'completed', 'cancelled', 'expired', 'purged', 'vanished'}) do
  missing = missing - counted(name)
end
if missing == 0 or missing ~= tonumber(ARGV[1]) then return 0 end
redis.call('HINCRBY', KEYS[3], missing > 0 and 'vanished' or 'adopted', math.abs(missing))
redis.call('HINCRBY', KEYS[3], 'repaired', 1)
return missing
