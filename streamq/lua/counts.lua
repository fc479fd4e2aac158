#!lua flags=no-writes,allow-stale
-- counts: one task type at one instant: states, counters, the oldest ready task.
-- The stream that is read first holds what was handed back too: a suspect has lost deliveries (field `l`).
-- Of more than a thousand entries there the rest counts as suspects.
-- KEYS schedule dead counters high normal low suspect
-- ARGV group
-- Returns {now_ms, ready, running, scheduled, dead, suspect, oldest ready ms or -1, next due ms or -1, counters}
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ready, running, suspects, oldest = 0, 0, 0, nil

local function group_of(stream)
  local groups = redis.pcall('XINFO', 'GROUPS', stream)
  for _, row in ipairs(groups.err and {} or groups) do
    local about = {}
    for n = 1, #row, 2 do about[row[n]] = row[n + 1] end
    if about.name == group then return about.pending, '(' .. about['last-delivered-id'] end
  end
  return 0, '-'
end

local function returned(stream)
  local number = 0
  for _, entry in ipairs(redis.call('XRANGE', stream, '-', '+', 'COUNT', 1000)) do
    local lost = false
    for m = 1, #entry[2], 2 do lost = lost or entry[2][m] == 'l' end
    if not lost then number = number + 1 end
  end
  return number
end

for _, stream in ipairs({high, normal, low, suspect}) do
  local pending, after = group_of(stream)
  local waiting = redis.call('XLEN', stream) - pending
  running = running + pending
  ready = ready + waiting
  if stream == suspect and pending + waiting > 0 then suspects = pending + waiting - returned(stream) end
  local first = waiting > 0 and redis.call('XRANGE', stream, after, '+', 'COUNT', 1)[1]
  if first then
    local since = tonumber(string.match(first[1], '^%d+'))
    if not oldest or since < oldest then oldest = since end
  end
end
local head = redis.call('ZRANGE', schedule, 0, 0, 'WITHSCORES')
return {
  now, ready, running, redis.call('ZCARD', schedule), redis.call('ZCARD', dead), suspects,
  oldest or -1, tonumber(head[2]) or -1, redis.call('HGETALL', counters)}
