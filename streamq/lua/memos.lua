#!lua flags=no-writes
-- memos: the memos of a task's steps.
-- USES memo_names
-- KEYS steps
-- ARGV id
-- Returns {name, memo...}
local found = {}
for name in memo_names(redis.call('HGET', steps, id) or '') do
  local value = redis.call('HGET', steps, id .. '\0' .. name)
  if value then
    found[#found + 1] = name
    found[#found + 1] = value
  end
end
return found
