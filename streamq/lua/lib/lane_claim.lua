-- lane_claim(what, id, how): give back the slot of a lane, at every end of a task that holds one.
-- USES end_task lane_gate
-- KEYS index
local function lane_claim(what, id, how)
  local number, lane = string.match(what, '^(%d+) ([^%z]+)$')
  if not number then return end
  local g = lane_gate()
  g.release(lane, id, how, g.counting and (redis.call('HGET', index, id) or id))
end
release.l = lane_claim
