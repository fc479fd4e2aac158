#!lua flags=no-writes,allow-stale
-- survey: look at many streams at once, so that an idle queue costs its daemon next to nothing.
-- KEYS streams...
-- ARGV group
-- Returns {{length, pending, consumers}...}; pending and consumers are -1 where the group is missing
local found = {}
for n, stream in ipairs(KEYS) do
  -- A key that is no stream has nothing to look after: its workers' log names it.
  local length = redis.pcall('XLEN', stream)
  local row = type(length) == 'number' and {length, -1, -1} or {0, 0, 0}
  local groups = redis.pcall('XINFO', 'GROUPS', stream)
  for _, found_group in ipairs(groups.err and {} or groups) do
    local about = {}
    for m = 1, #found_group, 2 do about[found_group[m]] = found_group[m + 1] end
    if about.name == group then row = {row[1], about.pending, about.consumers} end
  end
  found[n] = row
end
return found
