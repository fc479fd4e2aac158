#!lua flags=no-writes,allow-stale
-- page_schedules: a page of the schedules of a shard, without what their tasks are given.
-- KEYS schedules schedules_due
-- ARGV cursor limit
-- Returns {the cursor to go on from, 0 at the end, {name, definition or false, state or false, due or false...}}
local page = redis.call('HSCAN', schedules, cursor, 'COUNT', limit)
local rows = {}
for n = 1, #page[2], 2 do
  local name, of_state = string.match(page[2][n], '^([^:]*):(state)$')
  name = name or page[2][n]
  -- A definition without a state has a row too, and so has a state without a definition.
  if not string.find(name, ':', 1, true) and (not of_state or redis.call('HEXISTS', schedules, name) == 0) then
    local row = redis.call('HMGET', schedules, name, name .. ':state')
    rows[#rows + 1] = name
    rows[#rows + 1] = row[1]
    rows[#rows + 1] = row[2]
    rows[#rows + 1] = redis.call('ZSCORE', schedules_due, name)
  end
end
return {page[1], rows}
