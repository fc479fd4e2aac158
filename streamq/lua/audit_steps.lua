#!lua flags=no-writes,allow-stale
-- audit_steps: walk one step through the memos of a type's tasks; return the fields that belong to no task.
--
-- A task with memos is in a stream, the schedule, its lane or the list of dead letters.
-- USES memo_names task_lives
-- KEYS steps
-- ARGV group cursor limit bytes
-- Returns {the cursor to continue from, or '' at the end, checked, {field...}}
local limit, bytes = tonumber(limit), tonumber(bytes)

local lives = {}
local function alive(id)
  if lives[id] == nil then lives[id] = task_lives(id) end
  return lives[id]
end

local function owned(name)
  local id, step = string.match(name, '^([^%z]+)%z(.+)$')
  if not id then return alive(name) end
  for one in memo_names(redis.call('HGET', steps, id) or '') do
    if one == step then return alive(id) end
  end
  return false
end

local checked, lost, read, chunk = 0, {}, 0, 1
repeat
  local before, found = read, redis.call('HSCAN', steps, cursor, 'COUNT', chunk)
  cursor = found[1]
  for n = 1, #found[2], 2 do
    if not owned(found[2][n]) then lost[#lost + 1] = found[2][n] end
    read = read + #found[2][n + 1] + 300
    checked = checked + 1
  end
  if read - before < 16384 then chunk = math.min(16, chunk * 2) end
until cursor == '0' or checked >= limit or read >= bytes
return {cursor == '0' and '' or cursor, checked, lost}
