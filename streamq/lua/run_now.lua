#!lua flags=allow-oom
-- run_now: make a scheduled task ready at once.
-- USES identified note ring scheduled waits
-- KEYS schedule index high normal low
-- ARGV id action about
-- Returns 1, or 0 where the task is not in the schedule
local streams = {h = high, n = normal, l = low}
local due, number = scheduled(redis.call('HGET', index, id) or id)
local row = due and row_of(due, number)
-- A task that waits for the end of another one would run beside it.
if not row or waits(due) then return 0 end
local letter = string.match(row, '%D')
local fields = row_fields(row)
if not fields or not streams[letter] then return 0 end  -- promote will bury it
identified(fields, id)
redis.call('HSET', index, id, letter .. redis.call('XADD', streams[letter], '*', unpack(fields)))
ring(streams[letter])
redis.call('ZREM', schedule, row)
note(1)
return 1
