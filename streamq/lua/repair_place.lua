#!lua flags=allow-oom
-- repair_place: correct the index for a place: the task's row is set, or removed if it needs none.
--
-- Does nothing if the index names another place that also holds the task: then it exists twice.
-- USES field in_stream lane_row scheduled
-- KEYS schedule index counters
-- ARGV place
-- Returns how many rows were changed

local function fields_at(where)
  if string.sub(where, 1, 1) == 'k' then return parked_at(where) end
  local due, number = scheduled(where)
  if not due then return in_stream(where) end
  local row = row_of(due, number)
  return row and row_fields(row)
end

local fields = fields_at(place)
if not fields then return 0 end
local own = field(fields, 'i')
local id = own or place
local at = redis.call('HGET', index, id)
if own and at == place or not own and not at then return 0 end
local other = at and at ~= place and fields_at(at)
if other and (field(other, 'i') or at) == id then return 0 end
if own then redis.call('HSET', index, id, place) else redis.call('HDEL', index, id) end
redis.call('HINCRBY', counters, 'repaired', 1)
return 1
