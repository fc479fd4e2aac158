#!lua flags=no-writes,allow-stale
-- audit_slots: walk a piece of a stream, or of the schedule, and tell which tasks hold a slot of which lane.
-- USES field lane_entries lane_row
-- KEYS schedule high normal low suspect
-- ARGV letter cursor limit bytes
-- Returns {the cursor to go on after, or '' at the end, the last place read, {lane, id...}}
local counting, rows = {letter = letter, cursor = cursor}, {}
local function found(place, fields)
  local lane, _, kind = lane_of(field(fields, 'c'))
  if kind ~= 'l' then return end
  rows[#rows + 1] = lane
  rows[#rows + 1] = field(fields, 'i') or letter .. place
end

local over = lane_entries(counting, tonumber(limit), tonumber(bytes), found)
return {over and '' or counting.cursor, counting.cursor, rows}
