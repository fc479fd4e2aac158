-- lane_claim(what, id, how): give back the slot of a lane, at every end of a task that holds one.
-- lane_released(lane, id, how): the same, of a lane whose name is known.
-- USES end_task lane_gate
-- KEYS index
local function lane_released(lane, id, how)
  local g = lane_gate()
  g.release(lane, id, how, g.counting and (redis.call('HGET', index, id) or id))
end

local function lane_claim(what, id, how)
  local number, lane = string.match(what, '^(%d+) ([^%z]+)$')
  if number then lane_released(lane, id, how) end
end
release.l = lane_claim
