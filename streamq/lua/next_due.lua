#!lua flags=no-writes
-- next_due: when the next task of each of these sets is due, so that many are looked at in one call.
-- USES clock
-- KEYS due_sets...
-- ARGV
-- Returns {now in us, {due in ms, -1 where nothing is scheduled}}
local now, time = clock()
local found = {}
for n, due_set in ipairs(KEYS) do
  -- A key that is no sorted set counts as due: promote will say what is wrong with it.
  local head = redis.pcall('ZRANGE', due_set, 0, 0, 'WITHSCORES')
  -- So does a row of somebody else's with a time before all time, which is not "nothing scheduled".
  found[n] = head.err and now or head[2] and math.max(0, tonumber(head[2]) or 0) or -1
end
return {time[1] * 1000000 + time[2], found}
