-- lane_again(item, fields, due, hold): a task whose attempt is over runs again, due then (ms): of an ordered lane, or
-- due at once, it asks its lane at once, and the answer is nil; else the answer is its fields while it is
-- scheduled. hold (ms): nobody of its lane runs before. A task without a lane is left as it is.
-- lane_asks(item): a task that did not pass the gate, as a daemon of an older release promoted it, is handed back: it asks
-- its lane. Answers whether it is one.
-- lane_moved(fields, place, letter): an entry is appended anew to the stream of this letter, and keeps its slot; of an
-- ordered lane it has a new number. Answers its fields.
-- USES changed lane_gate lane_row
-- KEYS counters policy
local function lane_again(item, fields, due, hold)
  local lane, number, kind = lane_of(field(fields, 'c'))
  if not lane then return fields end
  local g = lane_gate()
  if kind == 'l' then g.release(lane, item.id, nil, item.place) end
  if not hold and due and not g.record(lane).ordered then return laned(fields, 'L', number, lane) end
  g.again(lane, number, item.priority, fields, item.id, due, hold)
end

local function lane_asks(item)
  local lane, number, kind = lane_of(field(item.fields, 'c'))
  if kind ~= 'L' then return false end
  local fields = changed(item.fields, {i = item.id, q = false})
  lane_gate().arrive(lane, field(fields, 'w'), item.priority, fields, item.id, number)
  return true
end

local function lane_moved(fields, place, letter)
  local lane, _, kind = lane_of(field(fields, 'c'))
  -- Only a count needs to know: whoever opens the gate has the lanes looked at whose time has come.
  if kind == 'l' and redis.pcall('HEXISTS', policy, 'counting') == 1 then lane_gate().moved(lane, place, letter) end
  for n = 1, #fields, 2 do
    if fields[n] == 'g' then
      fields[n + 1] = string.format('%.0f', redis.call('HINCRBY', counters, 'sequence', 1))
    end
  end
  return fields
end
