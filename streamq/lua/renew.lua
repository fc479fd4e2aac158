#!lua flags=allow-oom
-- renew: renew the leases of held deliveries; report which are lost and which tasks to cancel.
--
-- XCLAIM does not check the caller, so ownership is looked up first: a stale worker renews nothing. JUSTID
-- keeps the delivery count. XCLAIM drops a delivery whose entry something else deleted: it becomes a dead
-- letter (vanished), which the books count as dead + 1.
-- USES clock dead_letter end_task flow_claim lane_ghost memo_drop streams unique_lost vanished
-- KEYS policy cancels letters counters
-- ARGV group consumer default_lease_ms done deliveries...
-- Returns {now_ms, lease_ms, {places lost}, {ids to cancel}}; a delivery is a place and a local id
local now = clock()
local asked = redis.call('EXISTS', cancels) == 1
local lost, cancelled = {}, {}

local function write_off(letter, id)
  local stamp = string.format('%.0f', now)
  if redis.call('HEXISTS', letters, id) == 0 then
    dead_letter(id, vanished(id, letter, stamp, consumer))
    redis.call('HINCRBY', counters, 'dead', 1)
  end
  end_task(id, 'd')
  unique_lost(id)
  memo_drop(id)
  flow_lost(id)
  lane_ghost()
end

for n = first_arg, #ARGV, 2 do
  local place, id = ARGV[n], ARGV[n + 1]
  local stream, entry = streams[string.sub(place, 1, 1)], string.sub(place, 2)
  local held = redis.pcall('XPENDING', stream, group, entry, entry, 1, consumer)
  if held.err or #held == 0 then
    lost[#lost + 1] = place
  elseif #redis.call('XCLAIM', stream, group, consumer, 0, entry, 'JUSTID') == 0 then
    write_off(string.sub(place, 1, 1) == 's' and 'n' or string.sub(place, 1, 1), id)
    lost[#lost + 1] = place
  else
    if asked and redis.call('HEXISTS', cancels, id) == 1 then cancelled[#cancelled + 1] = id end
  end
end
-- A policy that is not a hash must not prevent renewing.
local lease = redis.pcall('HGET', policy, 'lease_ms')
lease = type(lease) == 'string' and tonumber(lease) or 0
-- A stored value that no app can have written is ignored.
if not (lease >= 200 and lease < 1e15) then lease = tonumber(default_lease_ms) end
return {now, lease, lost, cancelled}
