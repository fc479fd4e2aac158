#!lua flags=no-writes,allow-stale
-- audit_lanes: walk a piece of the parked tasks; tell which are not as they should be.
-- USES field in_order lane_row unlocked
-- KEYS lanes index letters
-- ARGV cursor limit
-- Returns {the cursor to go on after, or '' at the end, checked, {problem, what of it...}}: unreadable_row, with the
-- row's beginning; misplaced and missing_lock, with the place; alive_and_dead, with the task's id
local problems, cursor_ = {}, ''
local function problem(name, what)
  problems[#problems + 1] = name
  problems[#problems + 1] = what
end

local rows = redis.call('ZRANGE', lanes, cursor == '' and '-' or '(' .. cursor, '+', 'BYLEX', 'LIMIT', 0, limit)
for _, row in ipairs(ascending(rows, cursor)) do
  local found = lane_row(row)
  local fields = found and row_packed(found)
  local id = fields and field(fields, 'i')
  if not id then
    problem('unreadable_row', string.sub(row, 1, 80))
  else
    local place = 'k' .. found.digit .. found.number .. found.lane
    if redis.call('HGET', index, id) ~= place then problem('misplaced', place) end
    if redis.call('HEXISTS', letters, id) == 1 then problem('alive_and_dead', id) end
    if unlocked(fields, id, place) then problem('missing_lock', place) end
  end
  cursor_ = found and string.sub(row, 1, #found.lane + 17) .. '\255' or row
end
return {#rows == tonumber(limit) and cursor_ or '', #rows, problems}
