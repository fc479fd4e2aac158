#!lua flags=no-writes,allow-stale
-- lane_tasks: parked tasks, of all lanes or of one, in the order of their rows: lane, priority, number.
--
-- Where to go on is told without the name of a lane, which is an argument: by the id of the last task, and how many rows are
-- behind it, for when it is no longer parked.
-- USES field in_order lane_row shortened
-- KEYS lanes index
-- ARGV lane after limit
-- Returns {where to go on or '', {{id, letter, lane, due_ms or '', {fields, payload cut...}}...}}
local behind, id = string.match(after, '^(%d+) (.*)$')
local place = id and redis.call('HGET', index, id)
local parked = place and row_at(place)
local first = lane ~= '' and '[' .. lane .. '\0' or '-'
local last = lane ~= '' and '(' .. lane .. '\1' or '+'

local function rows_from()
  if parked or not behind then
    return redis.call('ZRANGE', lanes, parked and '(' .. parked.row or first, last, 'BYLEX', 'LIMIT', 0, limit)
  end
  local rank = math.max(0, redis.call('ZCARD', lanes) - tonumber(behind))
  return redis.call('ZRANGE', lanes, rank, rank + limit - 1)
end

local found = rows_from()
local rows, cursor = {}, ''
for _, row in ipairs(ascending(found, parked and parked.row or '')) do
  if lane ~= '' and string.sub(row, 1, #lane + 1) ~= lane .. '\0' then break end
  local parsed = lane_row(row)
  local fields = parsed and row_packed(parsed)
  local local_id = fields and field(fields, 'i') or ''
  if fields then
    rows[#rows + 1] = {local_id, parsed.letter, parsed.lane, string.format('%.0f', parsed.due), shortened(fields, 600)}
  end
  cursor = string.format('%.0f %s', redis.call('ZREVRANK', lanes, row), local_id)
  if budget <= 0 then return {cursor, rows} end
end
return {#found == tonumber(limit) and cursor or '', rows}
