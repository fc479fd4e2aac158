#!lua flags=no-writes,allow-stale
-- audit_place: check single places (a stream entry, a row of the schedule or of a lane), all at one instant.
-- USES scheduled in_stream lane_row streams field group_of later unlocked
-- KEYS schedule index letters
-- ARGV group places...
-- Returns {problem, place...}
local problems = {}

-- A row that streamq did not write has no number: it sorts before or after all rows that have one.
local function unnumbered(due)
  for _, order in ipairs({{due, due}, {due, due, 'REV'}}) do
    local args = {'ZRANGE', schedule, order[1], order[2], 'BYSCORE'}
    if order[3] then args[#args + 1] = 'REV' end
    args[#args + 1], args[#args + 2], args[#args + 3] = 'LIMIT', 0, 1
    local row = redis.call(unpack(args))[1]
    if row and not string.match(row, '^%d') then return row end
  end
end

-- The fields stored at a place: nil if it is empty, false if they cannot be read.
local function fields_at(place)
  if string.sub(place, 1, 1) == 'k' then return parked_at(place) end
  local due, number = scheduled(place)
  if due then
    local row
    if number == 0 then row = unnumbered(due) else row = row_of(due, number) end
    if not row then return nil end
    return row_fields(row) or false
  end
  return in_stream(place)
end

local function holds(place, id)
  local fields = fields_at(place)
  return fields and (field(fields, 'i') or place) == id
end

local function abandoned(place)
  local stream, entry = streams[string.sub(place, 1, 1)], string.sub(place, 2)
  local about = stream and group_of(stream)
  if not about or later(entry, about['last-delivered-id']) then return false end
  return #redis.call('XPENDING', stream, group, entry, entry, 1) == 0
end

local function look(place)
  local function problem(name)
    problems[#problems + 1] = name
    problems[#problems + 1] = place
  end
  local fields = fields_at(place)
  if fields == nil then return end
  if not fields then return problem('unreadable_row') end
  local own = field(fields, 'i')
  local id = own or place
  local at = redis.call('HGET', index, id)
  if redis.call('HEXISTS', letters, id) == 1 then problem('alive_and_dead') end
  if at and at ~= place and holds(at, id) then
    problem('in_two_places')
  elseif own and at ~= place then
    problem('misplaced')
  elseif not own and at then
    problem('needless_index_row')
  end
  if abandoned(place) then problem('undelivered') end
  local lock = unlocked(fields, id, place)
  if lock then problem(lock) end
end

for n = first_arg, #ARGV do look(ARGV[n]) end
return problems
