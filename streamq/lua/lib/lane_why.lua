-- lane_why(found): return why a parked task waits: limit, rate, turn or order.
-- first_of(lane): return the first row of a lane that can be read. book(): return the rules. They change nothing.
-- USES field lane_row lane_rules
-- KEYS lanes
local book_made
local function book()
  book_made = book_made or lane_rules()
  return book_made
end

-- Return the first readable row among the first hundred; false if there is none.
local function first_of(lane)
  local rows = redis.call('ZRANGE', lanes, '[' .. lane .. '\0', '(' .. lane .. '\1', 'BYLEX', 'LIMIT', 0, 1)
  if rows[1] and not lane_row(rows[1]) then
    rows = redis.call('ZRANGE', lanes, '[' .. lane .. '\0', '(' .. lane .. '\1', 'BYLEX', 'LIMIT', 1, 100)
  end
  for _, row in ipairs(rows) do
    local found = lane_row(row)
    if found and found.lane == lane then return found end
  end
  return false
end

local function lane_why(found)
  local b = book()
  local r, head = b.record(found.lane), first_of(found.lane)
  local first = head and head.rank == found.rank
  if r.halt ~= '' or (r.ordered and (r.held > 0 or not first)) then return 'order' end
  if r.held >= r.running then return 'limit' end
  if not head or b.ready_at(r, head.cost, head.due) > b.now then return 'rate' end
  if not first then return 'turn' end
  if b.room() <= 0 then return b.whole.fair and b.used() < b.whole.running and 'turn' or 'limit' end
  return b.ready_at(b.whole, found.cost, 0) > b.now and 'rate' or 'turn'
end
