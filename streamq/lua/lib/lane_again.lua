-- lane_again(item, fields, due, hold): a task whose attempt is over runs again, due then (ms): of an ordered lane, or
-- due at once, it asks its lane at once, and the answer is nil; else the answer is its fields while it is
-- scheduled. hold (ms): nobody of its lane runs before. A task without a lane is left as it is.
-- lane_fenced(fields): a task of an ordered lane that is appended anew has a new number.
-- USES lane_gate lane_row
-- KEYS counters
local function lane_again(item, fields, due, hold)
  local lane, number, kind = lane_of(field(fields, 'c'))
  if not lane then return fields end
  local g = lane_gate()
  if kind == 'l' then g.release(lane, item.id) end
  if not hold and due and not g.record(lane).ordered then return laned(fields, 'L', number, lane) end
  g.again(lane, number, item.priority, fields, item.id, due, hold)
end

local function lane_fenced(fields)
  for n = 1, #fields, 2 do
    if fields[n] == 'g' then
      fields[n + 1] = string.format('%.0f', redis.call('HINCRBY', counters, 'sequence', 1))
    end
  end
  return fields
end
