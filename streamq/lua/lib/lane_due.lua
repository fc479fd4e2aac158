-- lane_due(letter, fields, id, place): a task leaves the schedule and asks its lane; answers whether it is parked, nil
-- where it has no lane. One that a worker of an older release put there kept its slot: it gives it back and asks again,
-- under its number, as others may have entered the streams of the type meanwhile.
-- USES field lane_gate lane_row
local function lane_due(letter, fields, id, place)
  local lane, number, kind = lane_of(field(fields, 'c'))
  if not lane then return nil end
  local g = lane_gate()
  if kind == 'l' then g.release(lane, id, nil, place) end
  local _, parked = g.arrive(lane, field(fields, 'w'), letter, fields, id, number)
  return parked
end
