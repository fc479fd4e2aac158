-- lane_entries(counting, limit, bytes, found): walk on from where `counting` {letter, cursor} is in a stream, or in the
-- schedule (letter d); call found(place without its letter, fields) for each entry, and leave the cursor at the last.
-- Return whether the end was reached. The longer the entries, the fewer are read at a time: a payload may have any size.
-- USES row_fields
-- KEYS schedule high normal low suspect
local walked = {s = suspect, h = high, n = normal, l = low}

local function of_stream(counting, most)
  local from = counting.cursor == '' and '-' or '(' .. counting.cursor
  return redis.call('XRANGE', walked[counting.letter], from, '+', 'COUNT', most)
end

-- Rows with one due time are in the order of their numbers.
local function rank_after(due, number)
  local least = redis.call('ZCOUNT', schedule, '-inf', '(' .. due)
  local most = least + redis.call('ZCOUNT', schedule, due, due)
  while least < most do
    local middle = math.floor((least + most) / 2)
    local row = redis.call('ZRANGE', schedule, middle, middle)[1]
    if (tonumber(string.match(row, '^%d+')) or 0) <= number then least = middle + 1 else most = middle end
  end
  return least
end

local function of_schedule(counting, most)
  local due, number = string.match(counting.cursor, '^(%d+)-(%d+)$')
  local rank, rows = due and rank_after(due, tonumber(number)) or 0, {}
  local read = redis.call('ZRANGE', schedule, rank, rank + most - 1, 'WITHSCORES')
  for n = 1, #read, 2 do
    local place = string.format('%.0f-%.0f', math.max(0, read[n + 1]), tonumber(string.match(read[n], '^%d+')) or 0)
    rows[#rows + 1] = {place, row_fields(read[n]) or {}}
  end
  return rows
end

local function lane_entries(counting, limit, bytes, found)
  local seen, size, chunk = 0, 0, 1
  local read = counting.letter == 'd' and of_schedule or of_stream
  while seen < limit and size < bytes do
    local rows, before = read(counting, chunk), size
    for _, row in ipairs(rows) do
      found(row[1], row[2])
      counting.cursor = row[1]
      for _, value in ipairs(row[2]) do size = size + (type(value) == 'string' and #value or 0) end
    end
    seen = seen + #rows
    if #rows < chunk then return true end
    if size - before < 16384 then chunk = math.min(32, chunk * 2) end
  end
  return false
end
