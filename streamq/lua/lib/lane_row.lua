-- lane_row(row): return the parts of a row of `lanes`; nil if streamq did not write it.
-- row_packed(found): return the fields of a row; nil if they cannot be unpacked.
-- place_of(digit, number, lane): return the place of a row in the index.
-- row_at(place): return the row that a place in the index names.
-- parked_at(place): return the fields of the task there; nil if there is none, false if they cannot be read.
-- lane_of(claims): return the lane, the number as text and the kind of a task's claim on a lane; nil if it has none.
-- lane_alone(claims): the same, where the task has no other claim and the lane's name is short; else nil.
-- laned(fields, kind, number, lane): return the fields with this claim on a lane instead of any other; without a kind, with
-- no claim.
--
-- A row of `lanes` is: lane, NUL, digit, number of 15 digits, letter, cost;due;packed fields. The digit is the priority
-- inside the lane; 0 if the task was moved to the front. Its place in the index is `k`, digit, number, space, lane. Of a task that
-- has its number from its id, the packed fields have only the time of the id, in six bytes.
-- A claim of kind `l` in field `c` holds a slot of its lane; a claim of kind `L` asks for one when the task is due.
-- Both are the task's number (0: none yet) and its lane. NO_LANE is the lane of tasks that name none.
-- USES field
-- KEYS lanes
local NO_LANE = '\1'

local function lane_row(row)
  local lane, digit, number, letter, cost, due, at = string.match(row, '^([^%z]+)%z(%d)(%d+)([hnl])(%d+);(%d*);()')
  if not lane or #number ~= 15 or #cost > 9 or #due > 15 then return nil end
  return {
    row = row, lane = lane, digit = digit, number = number, letter = letter, cost = tonumber(cost), at = at,
    due = tonumber(due) or 0, rank = tonumber(digit) * 1e15 + tonumber(number)}
end

-- Return six bytes for the milliseconds of an id, with a NUL before them, and the milliseconds of such.
local function short_ms(ms)
  local text = '\0'
  for n = 5, 0, -1 do text = text .. string.char(math.floor(ms / 256 ^ n) % 256) end
  return text
end

local function ms_of_short(text)
  local ms = 0
  for n = 2, 7 do ms = ms * 256 + string.byte(text, n) end
  return ms
end

local function row_packed(found)
  local good, fields = pcall(cmsgpack.unpack, string.sub(found.row, found.at))
  if not good or type(fields) ~= 'table' or #fields == 0 or #fields % 2 == 1 or #fields > 1000 then return nil end
  for n, value in ipairs(fields) do
    if type(value) ~= 'string' then return nil end
    if #value == 7 and fields[n - 1] == 'i' and n % 2 == 0 and string.byte(value) == 0 then
      fields[n] = string.format('d%d-%d', ms_of_short(value), found.number)
    end
  end
  return fields
end

local function place_of(digit, number, lane) return 'k' .. digit .. string.format('%d ', number) .. lane end

local function row_at(place)
  local digit, number, lane = string.match(place, '^k(%d)(%d+) (.+)$')
  if not lane or #number > 15 then return nil end
  local first = lane .. '\0' .. digit .. string.rep('0', 15 - #number) .. number
  local row = redis.call('ZRANGE', lanes, '[' .. first, '(' .. first .. '\255', 'BYLEX', 'LIMIT', 0, 1)[1]
  return row and lane_row(row)
end

local function parked_at(place)
  local found = row_at(place)
  return found and (row_packed(found) or false)
end

local function lane_alone(claims)
  local kind, size, number, lane = string.match(claims, '^\146\161([lL])([\160-\191])(%d+) ([^%z]+)$')
  if kind and #number <= 15 and #number + #lane == string.byte(size) - 161 then return lane, number, kind end
end

local function lane_of(claims)
  if not claims then return nil end
  local lane_, number_, kind = lane_alone(claims)
  if kind then return lane_, number_, kind end
  local good, held = pcall(cmsgpack.unpack, claims)
  for n = 1, good and type(held) == 'table' and #held or 0, 2 do
    local what = held[n + 1]
    if (held[n] == 'l' or held[n] == 'L') and type(what) == 'string' then
      local number, lane = string.match(what, '^(%d+) ([^%z]+)$')
      if lane and #number <= 15 then return lane, number, held[n] end
    end
  end
end

-- Return cmsgpack.pack({kind, what}) of texts that are not long: nearly always the only claim of a task.
local function claimed(kind, what)
  local size = #what
  if size < 32 then return '\146\161' .. kind .. string.char(160 + size) .. what end
  if size < 256 then return '\146\161' .. kind .. '\217' .. string.char(size) .. what end
  return cmsgpack.pack({kind, what})
end

local function laned(fields, kind, number, lane)
  local packed = field(fields, 'c')
  local what = kind and string.format('%d ', number) .. lane
  if not packed then  -- nearly always
    if kind then
      local size = #fields
      fields[size + 1], fields[size + 2] = 'c', claimed(kind, what)
    end
    return fields
  end
  local claims, out = {kind, what}, {}
  local good, held = pcall(cmsgpack.unpack, packed)
  for n = 1, good and type(held) == 'table' and #held or 0, 2 do
    if held[n] ~= 'l' and held[n] ~= 'L' then
      claims[#claims + 1] = held[n]
      claims[#claims + 1] = held[n + 1]
    end
  end
  for n = 1, #fields, 2 do
    if fields[n] ~= 'c' then
      out[#out + 1] = fields[n]
      out[#out + 1] = fields[n + 1]
    end
  end
  if #claims > 0 then
    out[#out + 1] = 'c'
    out[#out + 1] = cmsgpack.pack(claims)
  end
  return out
end
