#!lua flags=allow-oom
-- repair_row: remove a row of the index or of the cancel requests whose task has no entry.
--
-- The caller has walked all streams and the schedule before: whatever exists there is in the index. So a row
-- that names an empty place is a leftover. A row that names a pending delivery must stay.
-- USES field lane_row scheduled streams
-- KEYS schedule index cancels counters
-- ARGV group of id
-- Returns how many rows were removed; `of` is index or cancels

-- Return whether the task may be at the place: unreadable content counts as yes.
local function occupied(place)
  local due, number = scheduled(place)
  local fields
  if string.sub(place, 1, 1) == 'k' then
    fields = parked_at(place)
    if fields == nil then return false end
    if not fields then return true end
  elseif due then
    local row = row_of(due, number)
    if not row then return false end
    fields = row_fields(row)
    if not fields then return true end
  else
    local stream, entry = streams[string.sub(place, 1, 1)], string.sub(place, 2)
    if not stream or not string.match(entry, '^%d+%-%d+$') then return false end
    local held = redis.pcall('XPENDING', stream, group, entry, entry, 1)
    local found = redis.call('XRANGE', stream, entry, entry)[1]
    if not found then return not held.err and #held == 1 end
    fields = found[2]
  end
  return (field(fields, 'i') or place) == id
end

local at = redis.call('HGET', index, id)
if of == 'index' and not at or occupied(at or id) then return 0 end
local removed = redis.call('HDEL', of == 'index' and index or cancels, id)
if removed > 0 then redis.call('HINCRBY', counters, 'repaired', removed) end
return removed
