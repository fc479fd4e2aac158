#!lua flags=no-writes,allow-stale
-- lane_list: lanes of a type, from the one after `after` on; or one lane, where `only` names it.
--
-- A walk over the lanes that have parked tasks.
-- USES field lane_row lane_why
-- KEYS lanes
-- ARGV after limit only
-- Returns {where to go on or '', {{lane, parked, held, most that may run or '', id of its first task, why that waits, weight, id
-- of the dead letter that halts it, until when it is held in ms or ''}...}}
local limit, rows = tonumber(limit), {}
local function shown(lane)
  local b = book()
  local r, head = b.record(lane), first_of(lane)
  local fields = head and row_packed(head)
  return {
    lane, redis.call('ZLEXCOUNT', lanes, '[' .. lane .. '\0', '(' .. lane .. '\1'), string.format('%.0f', r.held),
    r.running < math.huge and string.format('%.17g', r.running) or '', fields and field(fields, 'i') or '',
    head and lane_why(head) or '', string.format('%.17g', r.weight), r.halt,
    r.held_until > b.now and string.format('%.0f', r.held_until / 1000) or ''}
end

if only ~= '' then
  rows[1] = shown(only)
  return {'', rows}
end
local cursor = after
for _ = 1, limit do
  local row = redis.call(
    'ZRANGE', lanes, cursor == '' and '-' or '(' .. cursor .. '\1', '+', 'BYLEX', 'LIMIT', 0, 1)[1]
  if not row then
    cursor = ''
    break
  end
  cursor = string.match(row, '^([^%z]+)%z') or row
  rows[#rows + 1] = shown(cursor)
end
return {cursor, rows}
