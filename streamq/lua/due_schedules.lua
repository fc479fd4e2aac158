#!lua flags=no-writes
-- due_schedules: schedules whose time has come, earliest first, and when the next is due.
-- USES clock
-- KEYS schedules schedules_due
-- ARGV skip limit
-- Returns {now in ms, {member, score, definition or false, state or false...}, when the next is due or -1}
local now = clock()
local stamp = string.format('%.0f', now)
local found = redis.call('ZRANGE', schedules_due, '-inf', stamp, 'BYSCORE', 'LIMIT', skip, limit, 'WITHSCORES')
local rows = {}
for n = 1, #found, 2 do
  local name = string.match(found[n], '^[^:]*')
  local row = redis.call('HMGET', schedules, name, name .. ':state')
  rows[#rows + 1] = found[n]
  rows[#rows + 1] = found[n + 1]
  rows[#rows + 1] = row[1]
  rows[#rows + 1] = row[2]
end
local head = redis.call('ZRANGE', schedules_due, '(' .. stamp, '+inf', 'BYSCORE', 'LIMIT', 0, 1, 'WITHSCORES')
return {now, rows, tonumber(head[2]) or -1}
