#!lua flags=no-writes,allow-stale
-- audit_lanes: walk a piece of the parked tasks, `limit` and then so many more while `in_time` allows; tell which are not as
-- they should be.
-- USES field in_order in_time lane_row unlocked
-- KEYS lanes index letters
-- ARGV cursor limit
-- Returns {the cursor to go on after, or '' at the end, checked, {problem, what of it...}}: unreadable_row, with the
-- row's beginning; misplaced and missing_lock, with the place; alive_and_dead, with the task's id
local problems, checked, next_ = {}, 0, cursor
local function problem(name, what)
  problems[#problems + 1] = name
  problems[#problems + 1] = what
end

local function check(row)
  local found = lane_row(row)
  local fields = found and row_packed(found)
  local id = fields and field(fields, 'i')
  next_ = found and string.sub(row, 1, #found.lane + 17) .. '\255' or row
  if not id then return problem('unreadable_row', string.sub(row, 1, 80)) end
  local place = place_of(found.digit, found.number, found.lane)
  if redis.call('HGET', index, id) ~= place then problem('misplaced', place) end
  if redis.call('HEXISTS', letters, id) == 1 then problem('alive_and_dead', id) end
  if unlocked(fields, id, place) then problem('missing_lock', place) end
end

repeat
  local from = next_
  local rows = redis.call('ZRANGE', lanes, from == '' and '-' or '(' .. from, '+', 'BYLEX', 'LIMIT', 0, limit)
  for _, row in ipairs(ascending(rows, from)) do check(row) end
  checked = checked + #rows
  if #rows < tonumber(limit) or next_ == from then return {'', checked, problems} end
until not in_time(#rows)
return {next_, checked, problems}
