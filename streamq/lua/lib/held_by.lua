-- held_by(place): whether a delivery is pending under this consumer, and its entry is there: a worker that was given up for
-- dead holds nothing.
-- USES streams
-- ARGV group consumer
local function held_by(place)
  local stream, entry = streams[string.sub(place, 1, 1)], string.sub(place, 2)
  local held = redis.pcall('XPENDING', stream, group, entry, entry, 1, consumer)
  return not held.err and #held > 0 and #redis.call('XRANGE', stream, entry, entry) > 0
end
