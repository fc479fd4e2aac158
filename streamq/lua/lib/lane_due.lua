-- lane_due(letter, fields, id, place): let a task that leaves the schedule ask its lane; return whether it is parked, nil if
-- it has no lane. A task that a worker of an older release scheduled has kept its slot: it gives the slot back and asks
-- again under its number, because others may have entered the streams meanwhile.
-- USES field lane_gate lane_row
local function lane_due(letter, fields, id, place)
  local lane, number, kind = lane_of(field(fields, 'c'))
  if not lane then return nil end
  local g = lane_gate()
  if kind == 'l' then g.release(lane, id, nil, place) end
  local _, parked = g.arrive(lane, field(fields, 'w'), letter, fields, id, number)
  return parked
end
