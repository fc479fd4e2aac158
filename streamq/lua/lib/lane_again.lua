-- lane_again(item, fields, due, hold): let a task whose attempt is over run again when it is due (ms). If its lane is
-- ordered, or it is due at once, it asks its lane now, and the answer is nil; otherwise return its fields for the
-- schedule. hold (ms): no task of its lane starts before then. A task without a lane is left as it is.
-- lane_asks(item): send a task that did not pass the gate back to its lane: the daemon of an older release promoted it.
-- Return whether it was such a task.
-- lane_moved(fields, place, letter): return the fields of an entry that is appended anew to the stream of this letter. It
-- keeps its slot; in an ordered lane it gets a new fence.
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
  -- Only a recount needs to know: opening the gate also updates all lanes whose time has come.
  if kind == 'l' and redis.pcall('HEXISTS', policy, 'counting') == 1 then lane_gate().moved(lane, place, letter) end
  for n = 1, #fields, 2 do
    if fields[n] == 'g' then
      fields[n + 1] = string.format('%.0f', redis.call('HINCRBY', counters, 'sequence', 1))
    end
  end
  return fields
end
