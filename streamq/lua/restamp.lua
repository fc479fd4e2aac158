#!lua flags=allow-oom
-- restamp: renew the lease of every delivery of a stream for its present owner, after a clock jump.
--
-- XCLAIM drops a delivery whose entry something else deleted: that one is left to reclaim.
-- KEYS stream
-- ARGV group cursor limit
-- Returns the id to continue after, or '' when the round is complete
local pending = redis.call('XPENDING', stream, group, cursor, '+', limit)
for _, row in ipairs(pending) do
  if redis.call('XRANGE', stream, row[1], row[1])[1] then
    redis.call('XCLAIM', stream, group, row[2], 0, row[1], 'IDLE', 0, 'JUSTID')
  end
end
if #pending < tonumber(limit) then return '' end
return pending[#pending][1]
