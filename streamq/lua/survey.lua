#!lua flags=no-writes,allow-stale
-- survey: the state of many streams in one call, so that an idle queue costs its daemon almost nothing.
-- USES group_of
-- KEYS streams...
-- ARGV group
-- Returns {{length, pending, consumers}...}; pending and consumers are -1 if the group is missing
local found = {}
for n, stream in ipairs(KEYS) do
  -- A key that is not a stream needs no work: its workers log it.
  local length = redis.pcall('XLEN', stream)
  local row = type(length) == 'number' and {length, -1, -1} or {0, 0, 0}
  local about = group_of(stream)
  found[n] = about and {row[1], about.pending, about.consumers} or row
end
return found
