-- scheduled(place): the due time and number of a place in the schedule; nil if it is not one.
-- row_of(due, number, seen): the row of the schedule; `seen` is called with each row that was read.
-- USES row_fields
-- KEYS schedule
local function scheduled(place)
  local due, number = string.match(place, '^d(%d+)-(%d+)$')
  return due, tonumber(number)
end

-- Rows with one due time are sorted by their numbers, as bytes. The numbers have at least 12 digits; a later
-- release may always write 15.
local function row_of(due, number, seen)
  local first = redis.call('ZCOUNT', schedule, '-inf', '(' .. due)
  local last = first + redis.call('ZCOUNT', schedule, due, due) - 1
  for _, digits in ipairs({'%012d', '%015d'}) do
    local wanted = string.format(digits, number) .. 'h'  -- any letter
    local least, most = first, last
    while least <= most do
      local middle = math.floor((least + most) / 2)
      local row = redis.call('ZRANGE', schedule, middle, middle)[1]
      if seen then seen(row) end
      local found = string.match(row, '^%d+')
      found = found and found .. 'h' or row
      if found == wanted then return row end
      if found < wanted then least = middle + 1 else most = middle - 1 end
    end
  end
end
