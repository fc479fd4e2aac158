-- task_lives(id): whether a task exists: it has not ended, or is a dead letter. A delivery whose entry something else deleted
-- counts as one: it is still pending.
-- USES field in_stream lane_row scheduled streams
-- KEYS index schedule dead
-- ARGV group
local function task_lives(id)
  local place, fields = redis.call('HGET', index, id) or id, nil
  local due, number = scheduled(place)
  if string.sub(place, 1, 1) == 'k' then
    fields = parked_at(place)
  elseif due then
    local row = row_of(due, number)
    fields = row and row_fields(row)
  else
    fields = in_stream(place)
  end
  if fields and (field(fields, 'i') or place) == id then return true end
  if redis.call('ZSCORE', dead, id) then return true end
  local stream, entry = streams[string.sub(place, 1, 1)], string.sub(place, 2)
  if not stream or not string.match(entry, '^%d+%-%d+$') then return false end
  local held = redis.pcall('XPENDING', stream, group, entry, entry, 1)
  return not held.err and #held == 1
end
