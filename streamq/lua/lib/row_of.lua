-- row_of(schedule, due, number): a task's row, and the bytes that were read to find it; nil where there is none.
-- Rows with one due time are ordered by their numbers, as bytes. These have 12 digits, or more where they need
-- them; a later release may write 15 in any case.
local function row_of(schedule, due, number)
  local first = redis.call('ZCOUNT', schedule, '-inf', '(' .. due)
  local last, bytes = first + redis.call('ZCOUNT', schedule, due, due) - 1, 0
  for _, digits in ipairs({'%012d', '%015d'}) do
    local wanted = string.format(digits, number) .. 'h'  -- any letter
    local low, high = first, last
    while low <= high do
      local middle = math.floor((low + high) / 2)
      local row = redis.call('ZRANGE', schedule, middle, middle)[1]
      local found = string.match(row, '^%d+')
      found = found and found .. 'h' or row
      bytes = bytes + #row + 300
      if found == wanted then return row, bytes end
      if found < wanted then low = middle + 1 else high = middle - 1 end
    end
  end
  return nil, bytes
end
