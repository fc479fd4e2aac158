#!lua flags=allow-oom
-- repair_steps: delete memos that belong to no task.
-- USES memo_drop task_lives
-- KEYS steps counters
-- ARGV group name
-- Returns how many were deleted; `name` is a field of `steps`
local id, step = string.match(name, '^([^%z]+)%z(.+)$')
id = id or name

local before = redis.call('HLEN', steps)
if not task_lives(id) then
  memo_drop(id)
  redis.call('HDEL', steps, name)
elseif step then
  local listed = false
  for one in memo_names(redis.call('HGET', steps, id) or '') do listed = listed or one == step end
  if not listed then redis.call('HDEL', steps, name) end
end
local gone = before - redis.call('HLEN', steps)
if gone > 0 then redis.call('HINCRBY', counters, 'repaired', 1) end
return gone
