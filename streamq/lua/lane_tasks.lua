#!lua flags=no-writes,allow-stale
-- lane_tasks: parked tasks, of all lanes or of one, in the order of their rows: lane, priority, number.
-- USES in_order lane_row shortened
-- KEYS lanes
-- ARGV lane after limit
-- Returns {where to go on or '', {{id, letter, lane, due_ms or '', {fields, payload cut...}}...}}
local first = after ~= '' and '(' .. after or lane ~= '' and '[' .. lane .. '\0' or '-'
local last = lane ~= '' and '(' .. lane .. '\1' or '+'
local found = redis.call('ZRANGE', lanes, first, last, 'BYLEX', 'LIMIT', 0, limit)
local rows, cursor = {}, ''
for _, row in ipairs(ascending(found, after)) do
  if lane ~= '' and string.sub(row, 1, #lane + 1) ~= lane .. '\0' then break end
  local parsed = lane_row(row)
  local fields = parsed and row_packed(parsed)
  if fields then
    local id = ''
    for m = 1, #fields, 2 do
      if fields[m] == 'i' then id = fields[m + 1] end
    end
    rows[#rows + 1] = {id, parsed.letter, parsed.lane, string.format('%.0f', parsed.due), shortened(fields, 600)}
  end
  cursor = parsed and string.sub(row, 1, #parsed.lane + 17) .. '\255' or row
  if budget <= 0 then return {cursor, rows} end
end
return {#found == tonumber(limit) and cursor or '', rows}
