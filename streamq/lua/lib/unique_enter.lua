-- unique_enter(id, number, letter, fields): a task that followed the holder of its lock asks its lane, where it has the
-- place that it got when it was accepted.
-- USES unique_free lane_gate lane_row
local function unique_enter(id, _, letter, fields)
  local lane, number = lane_of(field(fields, 'c'))
  lane_gate().arrive(lane, field(fields, 'w'), letter, fields, id, number)
end
unique_enters = unique_enter
