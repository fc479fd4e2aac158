#!lua flags=no-writes,allow-stale
-- audit_schedule: walk a piece of the schedule; tell which rows want a closer look (audit_place).
--
-- By ZSCAN, not by rank: promotion takes rows from the front, and what stays must not be skipped.
-- KEYS schedule index letters
-- ARGV cursor limit bytes
-- Returns {the cursor to go on from, or '' at the end, checked, {place...}}
local schedule, index, letters = KEYS[1], KEYS[2], KEYS[3]
local cursor, limit, bytes = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local indexed, buried = redis.call('EXISTS', index) == 1, redis.call('EXISTS', letters) == 1

local function suspicious(row, place)
  local good, fields = pcall(cmsgpack.unpack, string.sub(row, 14))
  if not good or type(fields) ~= 'table' then return true end
  local id
  for n = 1, #fields, 2 do
    if fields[n] == 'i' then id = fields[n + 1] end
  end
  if id and redis.call('HGET', index, id) ~= place then return true end
  if not id and indexed and redis.call('HEXISTS', index, place) == 1 then return true end
  return buried and redis.call('HEXISTS', letters, id or place) == 1
end

local checked, places, read = 0, {}, 0
repeat
  local found = redis.call('ZSCAN', schedule, cursor, 'COUNT', 10)
  cursor = found[1]
  for n = 1, #found[2], 2 do
    local row = found[2][n]
    local place = string.format('d%.0f-%d', found[2][n + 1], tonumber(string.sub(row, 1, 12)) or 0)
    if suspicious(row, place) then places[#places + 1] = place end
    read = read + #row
    checked = checked + 1
  end
until cursor == '0' or checked >= limit or read >= bytes
return {cursor == '0' and '' or cursor, checked, places}
