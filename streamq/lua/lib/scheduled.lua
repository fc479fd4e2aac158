-- scheduled(place): the due time and the number of a place in the schedule; nil where it is none.
-- row_of(due, number, seen): the row of the schedule; `seen` is told of each row that was read.
-- USES row_fields
-- KEYS schedule
local function scheduled(place)
  local due, number = string.match(place, '^d(%d+)-(%d+)$')
  return due, tonumber(number)
end

-- Rows with one due time are ordered by their numbers.
local function row_of(due, number, seen)
  number = string.format('%012d', number) .. 'h'  -- any letter: numbers of 12 digits and of more, as bytes
  local low = redis.call('ZCOUNT', schedule, '-inf', '(' .. due)
  local high = low + redis.call('ZCOUNT', schedule, due, due) - 1
  while low <= high do
    local middle = math.floor((low + high) / 2)
    local row = redis.call('ZRANGE', schedule, middle, middle)[1]
    if seen then seen(row) end
    local found = string.match(row, '^%d+')
    found = found and found .. 'h' or row
    if found == number then return row end
    if found < number then low = middle + 1 else high = middle - 1 end
  end
end
