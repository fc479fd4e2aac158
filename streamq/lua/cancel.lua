#!lua flags=allow-oom
-- cancel: end a task that has not started; ask its worker where it has.
--
-- The request to a worker is kept in `cancels` until the task ends, whoever holds it then; the message
-- on the control channel only makes it quick.
-- USES end_task field lane_claim lane_row lane_tell note scheduled streams memo_claimed unique_enter flow_claim blob_claim
-- KEYS schedule index counters cancels gone dead
-- ARGV group id task_id control done action about task_type wake
-- Returns cancelled (also where it was before), requested, dead or unknown
gate_buries = false
local function cancelled(fields)
  end_task(id, 'x', nil, field(fields, 'c'))
  redis.call('HINCRBY', counters, 'cancelled', 1)
  note(1)
  gate_close()
  return 'cancelled'
end

local place = redis.call('HGET', index, id) or id
local kind = string.sub(place, 1, 1)
local due, number = scheduled(place)
if due then
  local row = row_of(due, number)
  if row then
    redis.call('ZREM', schedule, row)
    return cancelled(row_fields(row) or {})
  end
end
local parked = kind == 'k' and row_at(place)
if parked then
  lane_gate().take(parked)
  return cancelled(row_packed(parked) or {})
end
local stream, entry = streams[kind], string.sub(place, 2)
local found = stream and redis.pcall('XRANGE', stream, entry, entry)
if found and not found.err and found[1] then  -- what the index says may be no entry's id
  local held = redis.pcall('XPENDING', stream, group, entry, entry, 1)
  if held.err or #held == 0 then
    redis.call('XDEL', stream, entry)
    return cancelled(found[1][2])
  end
  redis.call('HSET', cancels, id, '1')
  redis.call('PUBLISH', control, 'cancel ' .. task_id)
  note(1)
  return 'requested'
end
if redis.call('ZSCORE', dead, id) then return 'dead' end
if redis.call('ZSCORE', gone, 'x' .. id) then return 'cancelled' end  -- the reply to the first call was lost
return 'unknown'
