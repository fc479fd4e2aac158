-- in_stream(place): the fields of the entry at a place; nil if there is none.
-- USES streams
local function in_stream(place)
  local stream, entry = streams[string.sub(place, 1, 1)], string.sub(place, 2)
  if not stream or not string.match(entry, '^%d+%-%d+$') then return nil end
  local found = redis.call('XRANGE', stream, entry, entry)[1]
  return found and found[2]
end
