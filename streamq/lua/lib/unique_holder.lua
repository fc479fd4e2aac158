-- unique_holder(what, group): the task that holds the lock of a unique key's digest, and where it is; nil if the lock is
-- free, or its holder does not exist (its row is a leftover then). The `state` is scheduled, parked, ready, or started
-- if a worker has it. `fields` is nil if they cannot be read.
-- found_at(id, group): the same of any task.
-- USES scheduled streams lane_row
-- KEYS unique index
local function found_at(id, group_)
  local place = redis.call('HGET', index, id) or id
  local due, number = scheduled(place)
  if due then
    local row = row_of(due, number)
    return row and {
      id = id, state = 'scheduled', row = row, due = tonumber(due), number = number, letter = string.match(row, '%D'),
      fields = row_fields(row), place = place}
  end
  local letter, entry = string.sub(place, 1, 1), string.sub(place, 2)
  if letter == 'k' then
    local found = row_at(place)
    return found and {id = id, state = 'parked', parked = found, letter = found.letter, fields = row_packed(found)}
  end
  local stream = streams[letter]
  if not stream then return nil end
  local held = redis.pcall('XPENDING', stream, group_, entry, entry, 1)
  local found = redis.pcall('XRANGE', stream, entry, entry)
  found = not found.err and found[1]  -- what the index says may be no entry's id
  if not held.err and #held > 0 then
    return {id = id, state = 'started', letter = letter, fields = found and found[2]}
  end
  return found and {
    id = id, state = 'ready', letter = letter, stream = stream, entry = entry, fields = found[2], place = place}
end

local function unique_holder(what, group_)
  local id = redis.call('HGET', unique, what)
  return id and found_at(id, group_)
end
