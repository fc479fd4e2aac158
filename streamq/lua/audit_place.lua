#!lua flags=no-writes,allow-stale
-- audit_place: look closely at single places (a stream entry, a row of the schedule), all at one instant.
-- USES row_of
-- KEYS schedule index letters high normal low suspect
-- ARGV group places...
-- Returns {problem, place...}
local streams = {h = high, n = normal, l = low, s = suspect}
local problems = {}

-- A row that is none of ours has no number: it lies before or behind all that have one.
local function unnumbered(due)
  for _, order in ipairs({{due, due}, {due, due, 'REV'}}) do
    local args = {'ZRANGE', schedule, order[1], order[2], 'BYSCORE'}
    if order[3] then args[#args + 1] = 'REV' end
    args[#args + 1], args[#args + 2], args[#args + 3] = 'LIMIT', 0, 1
    local row = redis.call(unpack(args))[1]
    if row and not string.match(row, '^%d') then return row end
  end
end

-- The fields of what is at a place: nil where nothing is, false where they cannot be read.
local function fields_at(place)
  local due, number = string.match(place, '^d(%d+)-(%d+)$')
  if due then
    local row = tonumber(number) == 0 and unnumbered(due) or row_of(schedule, due, tonumber(number))
    if not row then return nil end
    local good, fields = pcall(cmsgpack.unpack, string.sub(row, (string.find(row, '%D') or #row) + 1))
    return good and type(fields) == 'table' and fields or false
  end
  local stream, entry = streams[string.sub(place, 1, 1)], string.sub(place, 2)
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

local function holds(place, id)
  local fields = fields_at(place)
  return fields and (id_in(fields) or place) == id
end

local function abandoned(place)
  local stream, entry = streams[string.sub(place, 1, 1)], string.sub(place, 2)
  if not stream then return false end
  local function halves(id)
    local ms, n = string.match(id, '^(%d+)-(%d+)$')
    return tonumber(ms), tonumber(n)
  end
  local groups = redis.pcall('XINFO', 'GROUPS', stream)
  for _, row in ipairs(groups.err and {} or groups) do
    local about = {}
    for n = 1, #row, 2 do about[row[n]] = row[n + 1] end
    if about.name == group then
      local last_ms, last_n = halves(about['last-delivered-id'])
      local ms, n = halves(entry)
      if ms < last_ms or (ms == last_ms and n <= last_n) then
        return #redis.call('XPENDING', stream, group, entry, entry, 1) == 0
      end
    end
  end
  return false
end

local function look(place)
  local function problem(name)
    problems[#problems + 1] = name
    problems[#problems + 1] = place
  end
  local fields = fields_at(place)
  if fields == nil then return end
  if not fields then return problem('cannot be unpacked') end
  local own = id_in(fields)
  local id = own or place
  local at = redis.call('HGET', index, id)
  if redis.call('HEXISTS', letters, id) == 1 then problem('alive and dead at once') end
  if at and at ~= place and holds(at, id) then
    problem('in two places at once')
  elseif own and at ~= place then
    problem('not where the index says')
  elseif not own and at then
    problem('in the index but never moved')
  end
  if abandoned(place) then problem('delivered to nobody') end
end

for n = first_arg, #ARGV do look(ARGV[n]) end
return problems
