#!lua flags=allow-oom
-- purge_lane: end the parked tasks of a lane as cancelled, a batch of them; what runs or is ready goes on.
-- USES end_task field lane_gate lane_claim lane_row lane_tell level note memo_claimed unique_enter flow_claim blob_claim
-- KEYS lanes counters policy
-- ARGV lane limit done action about task_type wake
-- Returns how many were ended
local ended = 0
level_lanes(lanes, policy, 1000)
local rows = redis.call('ZRANGE', lanes, '[' .. lane .. '\0', '(' .. lane .. '\1', 'BYLEX', 'LIMIT', 0, limit)
for _, row in ipairs(rows) do
  local found = lane_row(row)
  local fields = found and found.lane == lane and row_packed(found)
  if fields then
    lane_gate().take(found)
    end_task(field(fields, 'i'), 'x', nil, field(fields, 'c'))
    ended = ended + 1
  end
end
if ended > 0 then redis.call('HINCRBY', counters, 'cancelled', ended) end
note(ended)
gate_close()
return ended
