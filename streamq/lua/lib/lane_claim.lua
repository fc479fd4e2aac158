-- lane_claim(what, id, how): gives the slot of a lane back, at every end of a task that holds one.
-- USES end_task lane_gate
local function lane_claim(what, id, how)
  local number, lane = string.match(what, '^(%d+) ([^%z]+)$')
  if number then lane_gate().release(lane, id, how) end
end
release.l = lane_claim
