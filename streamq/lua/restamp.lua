#!lua flags=allow-oom
-- restamp: give every delivery of a stream a fresh lease with its present owner, after a clock jump.
--
-- XCLAIM forgets a delivery whose entry was deleted behind our back: that one is left to reclaim.
-- KEYS stream
-- ARGV group cursor limit
-- Returns the id to go on after, or '' when the round is complete
local pending = redis.call('XPENDING', stream, group, cursor, '+', limit)
for _, row in ipairs(pending) do
  if redis.call('XRANGE', stream, row[1], row[1])[1] then
    redis.call('XCLAIM', stream, group, row[2], 0, row[1], 'IDLE', 0, 'JUSTID')
  end
end
if #pending < tonumber(limit) then return '' end
return pending[#pending][1]
