#!lua flags=no-writes,allow-stale
-- audit_pending: walk one step through a group's pending deliveries; their entries must still be in the
-- stream.
-- KEYS stream policy
-- ARGV group letter cursor limit bytes default_lease_ms late_ms
-- Returns {the id to continue from, or '' at the end, checked, deliveries idle for `late_ms` more than the
-- lease, {place...}}; the places are those of deleted entries
local limit = tonumber(limit)
local pending = redis.pcall('XPENDING', stream, group, cursor, '+', limit)
if pending.err then return {'', 0, 0, {}} end
local lease = tonumber(redis.call('HGET', policy, 'lease_ms')) or tonumber(default_lease_ms)
local longest, late, read, places = lease + tonumber(late_ms), 0, 0, {}
for n, row in ipairs(pending) do
  local entry = redis.call('XRANGE', stream, row[1], row[1])[1]
  if not entry then places[#places + 1] = letter .. row[1] end
  if row[3] > longest then late = late + 1 end
  for m = 2, entry and #entry[2] or 0, 2 do read = read + #entry[2][m] end
  if n < #pending and read >= tonumber(bytes) then return {'(' .. row[1], n, late, places} end
end
if #pending < limit then return {'', #pending, late, places} end
return {'(' .. pending[#pending][1], #pending, late, places}
