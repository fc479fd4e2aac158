#!lua flags=allow-oom
-- renew: give the deliveries in hand a fresh lease; tell which are no longer ours and which to cancel.
--
-- XCLAIM asks nobody who they are, so ownership is looked up first: a stale worker renews nothing.
-- JUSTID leaves the delivery count alone.
-- KEYS policy cancels high normal low suspect
-- ARGV group consumer default_lease_ms deliveries...
-- Returns {now_ms, lease_ms, {places lost}, {ids to cancel}}; a delivery is a place and a local id
local streams = {h = KEYS[3], n = KEYS[4], l = KEYS[5], s = KEYS[6]}
local group, consumer = ARGV[1], ARGV[2]
local time = redis.call('TIME')
local cancelling = redis.call('EXISTS', KEYS[2]) == 1
local lost, cancelled = {}, {}
for n = 4, #ARGV, 2 do
  local place, id = ARGV[n], ARGV[n + 1]
  local stream, entry = streams[string.sub(place, 1, 1)], string.sub(place, 2)
  local held = redis.pcall('XPENDING', stream, group, entry, entry, 1, consumer)
  if held.err or #held == 0 then
    lost[#lost + 1] = place
  else
    redis.call('XCLAIM', stream, group, consumer, 0, entry, 'JUSTID')
    if cancelling and redis.call('HEXISTS', KEYS[2], id) == 1 then cancelled[#cancelled + 1] = id end
  end
end
local lease = tonumber(redis.call('HGET', KEYS[1], 'lease_ms')) or 0
-- A stored value that no app can have written counts as none.
if not (lease >= 200 and lease < 1e15) then lease = tonumber(ARGV[3]) end
return {time[1] * 1000 + math.floor(time[2] / 1000), lease, lost, cancelled}
