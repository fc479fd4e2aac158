#!lua flags=no-writes
-- next_due: when the next row of each of these sorted sets is due, many in one call.
-- USES clock
-- KEYS due_sets...
-- ARGV
-- Returns {now in us, {due in ms, -1 if nothing is scheduled}}
local now, time = clock()
local found = {}
for n, due_set in ipairs(KEYS) do
  -- A key that is not a sorted set counts as due: promote then reports the fault.
  local head = redis.pcall('ZRANGE', due_set, 0, 0, 'WITHSCORES')
  -- So does a foreign row with a negative time, which does not mean "nothing scheduled".
  found[n] = head.err and now or head[2] and math.max(0, tonumber(head[2]) or 0) or -1
end
return {time[1] * 1000000 + time[2], found}
