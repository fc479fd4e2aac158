-- ready_now(row, fields, id, place): a task leaves the schedule for its stream, or asks its lane. Return whether it is parked
-- there, nil where it has no lane.
-- USES identified lane_due ring
-- KEYS schedule index high normal low
local function ready_now(row, fields, id, place)
  local letter = string.match(row, '%D')
  local stream = letter == 'h' and high or letter == 'l' and low or normal
  identified(fields, id)
  redis.call('ZREM', schedule, row)
  local parked = lane_due(letter, fields, id, place)
  if parked == nil then
    redis.call('HSET', index, id, letter .. redis.call('XADD', stream, '*', unpack(fields)))
    ring(stream)
  end
  return parked
end
