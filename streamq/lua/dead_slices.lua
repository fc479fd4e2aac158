#!lua flags=no-writes,allow-stale
-- dead_slices: count the letters of these groups that died in each of the latest time slices, oldest first.
-- USES clock
-- KEYS groups
-- ARGV slice_ms slices fingerprints...
-- Returns {{count per slice...}...}
local slice, slices = tonumber(slice_ms), tonumber(slices)
local now = clock() + 1
local found = {}
for n = first_arg, #ARGV do
  local line = {}
  for back = slices, 1, -1 do
    local from = string.format('(%s %013.0f', ARGV[n], now - back * slice)
    local until_ = string.format('(%s %013.0f', ARGV[n], now - (back - 1) * slice)
    line[#line + 1] = redis.call('ZLEXCOUNT', groups, from, until_)
  end
  found[#found + 1] = line
end
return found
