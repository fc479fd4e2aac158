#!lua flags=allow-oom
-- expire: end tasks whose time is over and that nobody has begun, without a worker.
--
-- A row of `expiring` is a local id by the moment at which its task expires. What a worker holds is the
-- worker's to judge, and is looked at again in `again_ms`: it may be handed back. The row of a task that
-- has ended is dropped, and so is one whose task has no lifetime any more.
-- USES clock end_task field lane_claim lane_row lane_tell scheduled streams memo_claimed unique_enter flow_claim blob_claim
-- KEYS expiring schedule index counters
-- ARGV group limit again_ms done task_type wake
-- Returns {rows looked at, tasks expired}
local again = tonumber(again_ms)
local now = clock()
local stamp = string.format('%.0f', now)

-- Nil where there is no such task, 'held', or its fields and what takes it away.
local function unbegun(id)
  local place = redis.call('HGET', index, id) or id
  local due, number = scheduled(place)
  if due then
    local row = row_of(due, number)
    return row and row_fields(row), function() redis.call('ZREM', schedule, row) end
  end
  if string.sub(place, 1, 1) == 'k' then
    local parked = row_at(place)
    return parked and row_packed(parked), function() lane_gate().take(parked) end
  end
  local stream, entry = streams[string.sub(place, 1, 1)], string.sub(place, 2)
  local found = stream and redis.pcall('XRANGE', stream, entry, entry)
  found = found and not found.err and found[1]  -- what the index says may be no entry's id
  if not found then return nil end
  local held = redis.pcall('XPENDING', stream, group, entry, entry, 1)
  if not held.err and #held > 0 then return 'held' end
  return found[2], function() redis.call('XDEL', stream, entry) end
end

local rows, expired = redis.call('ZRANGE', expiring, '-inf', stamp, 'BYSCORE', 'LIMIT', 0, limit), 0
for _, id in ipairs(rows) do
  local fields, take_away = unbegun(id)
  local moment = type(fields) == 'table' and tonumber(field(fields, 'x'))
  if fields == 'held' then
    redis.call('ZADD', expiring, string.format('%.0f', now + again), id)
  elseif moment and moment > now then
    redis.call('ZADD', expiring, string.format('%.0f', moment), id)
  elseif moment then
    take_away()
    end_task(id, 'e', stamp, field(fields, 'c'))
    expired = expired + 1
  else
    redis.call('ZREM', expiring, id)
  end
end
gate_close()
if expired > 0 then redis.call('HINCRBY', counters, 'expired', expired) end
return {#rows, expired}
