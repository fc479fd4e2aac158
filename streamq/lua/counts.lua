#!lua flags=no-writes,allow-stale
-- counts: the state of one task type at one instant: states, counters, the oldest ready task.
-- The stream that is read first also holds tasks that were handed back: a suspect has lost deliveries (field
-- `l`). Beyond a thousand entries there, all count as suspects.
-- USES clock field group_of waits
-- KEYS schedule dead counters high normal low suspect lanes
-- ARGV group
-- Returns {now_ms, ready, running, scheduled, dead, suspect, oldest ready ms or -1, next due ms or -1, counters, parked}
local now = clock()
local ready, running, suspects, oldest = 0, 0, 0, nil

local function returned(stream)
  local number = 0
  for _, entry in ipairs(redis.call('XRANGE', stream, '-', '+', 'COUNT', 1000)) do
    if not field(entry[2], 'l') then number = number + 1 end
  end
  return number
end

for _, stream in ipairs({high, normal, low, suspect}) do
  local about = group_of(stream)
  local pending = about and about.pending or 0
  local waiting = redis.call('XLEN', stream) - pending
  running = running + pending
  ready = ready + waiting
  if stream == suspect and pending + waiting > 0 then suspects = pending + waiting - returned(stream) end
  local first = waiting > 0 and redis.call('XRANGE', stream, about and '(' .. about['last-delivered-id'] or '-', '+', 'COUNT', 1)[1]
  if first then
    local since = tonumber(string.match(first[1], '^%d+'))
    if not oldest or since < oldest then oldest = since end
  end
end
local head = redis.call('ZRANGE', schedule, 0, 0, 'WITHSCORES')
local due = tonumber(head[2])
return {
  now, ready, running, redis.call('ZCARD', schedule), redis.call('ZCARD', dead), suspects,
  oldest or -1, due and not waits(due) and due or -1, redis.call('HGETALL', counters),
  redis.call('ZCARD', lanes)}
