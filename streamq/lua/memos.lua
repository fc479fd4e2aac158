#!lua flags=no-writes
-- memos: the memos of a task's steps, as many as one call may read.
-- USES memo_names
-- KEYS steps
-- ARGV id first bytes
-- Returns {the number of the memo to go on from, or 0 at the end, name, memo...}; `first` is 1 at the beginning
local first, left, found, number = tonumber(first), tonumber(bytes), {0}, 0
for name in memo_names(redis.call('HGET', steps, id) or '') do
  number = number + 1
  if number >= first then
    if left <= 0 then
      found[1] = number
      break
    end
    local value = redis.call('HGET', steps, id .. '\0' .. name) or ''
    left = left - #value - 100
    found[#found + 1] = name
    found[#found + 1] = value
  end
end
return found
