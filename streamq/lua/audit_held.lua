#!lua flags=no-writes,allow-stale
-- audit_held: hold what one lane is written to hold against its tasks, at one instant: of those that a walk over the
-- streams has seen, the ones that still hold their slot, and what has come into the streams since.
-- USES field in_stream lane_entries lane_rules lane_row scheduled streams
-- KEYS schedule index
-- ARGV lane limit bytes high_cursor normal_cursor low_cursor suspect_cursor ids...
-- Returns {held as written, held as counted}, or nil where more has come since than one call reads
local tasks, there = {}, 0
local function count(id)
  if not tasks[id] then there = there + 1 end
  tasks[id] = true
end

local function holds(fields)
  local name, _, kind = lane_of(type(fields) == 'table' and field(fields, 'c') or nil)
  return kind == 'l' and name == lane
end

local function fields_at(place)
  local due, number = scheduled(place)
  if not due then return in_stream(place) end
  local row = row_of(due, number)
  return row and row_fields(row)
end

for letter, cursor in pairs({h = high_cursor, n = normal_cursor, l = low_cursor, s = suspect_cursor}) do
  local over = lane_entries({letter = letter, cursor = cursor}, tonumber(limit), tonumber(bytes), function(place, fields)
    if holds(fields) then count(field(fields, 'i') or letter .. place) end
  end)
  if not over then return nil end
end
for n = first_arg, #ARGV do
  if holds(fields_at(redis.call('HGET', index, ARGV[n]) or ARGV[n])) then count(ARGV[n]) end
end
return {lane_rules().record(lane).held, there}
