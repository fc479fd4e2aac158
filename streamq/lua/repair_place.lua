#!lua flags=allow-oom
-- repair_place: make the index say where a task is: its row is set, or removed where it needs none.
--
-- Does nothing where the index names another place that holds the task too: then there are two of it.
-- USES row_of
-- KEYS schedule index counters high normal low suspect
-- ARGV place
-- Returns how many rows were changed
local streams = {h = high, n = normal, l = low, s = suspect}

local function fields_at(where)
  local due, number = string.match(where, '^d(%d+)-(%d+)$')
  if due then
    local row = row_of(schedule, due, tonumber(number))
    local good, fields = pcall(cmsgpack.unpack, row and string.sub(row, (string.find(row, '%D') or #row) + 1) or '')
    return row and good and type(fields) == 'table' and fields
  end
  local stream, entry = streams[string.sub(where, 1, 1)], string.sub(where, 2)
  if not stream or not string.match(entry, '^%d+%-%d+$') then return nil end
  local found = redis.call('XRANGE', stream, entry, entry)[1]
  return found and found[2]
end

local function id_in(fields)
  for n = 1, #fields, 2 do
    if fields[n] == 'i' then return fields[n + 1] end
  end
  return nil
end

local fields = fields_at(place)
if not fields then return 0 end
local own = id_in(fields)
local id = own or place
local at = redis.call('HGET', index, id)
if own and at == place or not own and not at then return 0 end
local other = at and at ~= place and fields_at(at)
if other and (id_in(other) or at) == id then return 0 end
if own then redis.call('HSET', index, id, place) else redis.call('HDEL', index, id) end
redis.call('HINCRBY', counters, 'repaired', 1)
return 1
