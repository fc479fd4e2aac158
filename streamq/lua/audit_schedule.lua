#!lua flags=no-writes,allow-stale
-- audit_schedule: walk one step through the schedule; return the rows to check with audit_place.
--
-- The cursor names the last row, not its rank: promotion takes rows from the front, and the remaining ones
-- must not be skipped. Reads a few rows at a time: see audit_stream.
-- USES row_fields field unlocked
-- KEYS schedule index letters
-- ARGV cursor limit bytes
-- Returns {the cursor to continue after, or '' at the end, checked, {place...}}
local limit, bytes = tonumber(limit), tonumber(bytes)
local indexed, buried = redis.call('EXISTS', index) == 1, redis.call('EXISTS', letters) == 1

-- Rows with one due time are sorted by their bytes; the first fifteen distinguish them.
local function is_until(row, mark)
  for n = 1, 15 do
    local x, y = string.byte(row, n) or -1, string.byte(mark, n) or -1
    if x ~= y then return x < y end
  end
  return true
end

local function row_at(rank) return redis.call('ZRANGE', schedule, rank, rank)[1] end

-- The rank of the first row after the cursor, even if rows have been removed since.
local function rank_after(due, mark)
  local low = redis.call('ZCOUNT', schedule, '-inf', '(' .. due)
  local high = low + redis.call('ZCOUNT', schedule, due, due)
  while low < high do
    local middle = math.floor((low + high) / 2)
    if is_until(row_at(middle), mark) then low = middle + 1 else high = middle end
  end
  return low
end

local function suspicious(row, place)
  local fields = row_fields(row)
  if not fields then return true end
  local id = field(fields, 'i')
  if id and redis.call('HGET', index, id) ~= place then return true end
  if not id and indexed and redis.call('HEXISTS', index, place) == 1 then return true end
  return buried and redis.call('HEXISTS', letters, id or place) == 1 or unlocked(fields, id or place, place)
end

local due, mark = string.match(cursor, '^(.+) (%x*)$')
mark = mark and string.gsub(mark, '%x%x', function(code) return string.char(tonumber(code, 16)) end)
local rank = due and rank_after(due, mark) or 0
local checked, places, read, chunk, got = 0, {}, 0, 1, 1
while checked < limit and read < bytes and got > 0 do
  local before = read
  local rows = redis.call('ZRANGE', schedule, rank, rank + chunk - 1, 'WITHSCORES')
  got = #rows == chunk * 2 and chunk or 0
  for n = 1, #rows, 2 do
    local row, score = rows[n], rows[n + 1]
    local place = string.format('d%.0f-%d', score, tonumber(string.match(row, '^%d+')) or 0)
    if suspicious(row, place) then places[#places + 1] = place end
    due, mark = score, string.sub(row, 1, 15)
    read = read + #row
  end
  rank = rank + #rows / 2
  checked = checked + #rows / 2
  if read - before < 16384 then chunk = math.min(16, chunk * 2) end
end
if got == 0 then return {'', checked, places} end
local code = string.gsub(mark, '.', function(byte) return string.format('%02x', string.byte(byte)) end)
return {due .. ' ' .. code, checked, places}
