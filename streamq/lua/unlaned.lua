#!lua flags=no-writes,allow-stale
-- unlaned: count, among the first tasks of a type with lanes, those that are in none: a program of an older release, or one
-- that does not know the type's lanes, has enqueued them.
-- USES field lane_entries lane_row
-- KEYS schedule high normal low suspect
-- ARGV limit bytes
-- Returns {tasks looked at, those without a lane}
local looked, without = 0, 0
local function found(_, fields)
  looked = looked + 1
  if not lane_of(field(fields, 'c')) then without = without + 1 end
end

for _, letter in ipairs({'s', 'h', 'n', 'l', 'd'}) do
  lane_entries({letter = letter, cursor = ''}, tonumber(limit), tonumber(bytes), found)
end
return {looked, without}
