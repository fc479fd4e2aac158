-- lane_enter(joins, letter, fields): let a new task ask to run; return its id.
-- lane_good(joins): return whether a new task's lane and cost are valid: text of up to 200 bytes without a NUL ('' is the
-- lane of tasks that name none), and a whole number.
-- lane_probe(wrong): check the types of the keys that only a task with a lane writes; the others are read before.
-- lane_ready(tasks, now): create the gate, which reads what it needs, before the first write.
-- lane_later(joins, fields, due, number): return the fields of a task while it is scheduled: it asks its lane when it is due.
-- Only the successor of a lock's holder has its number from the start.
-- USES lane_gate lane_tell waits
-- KEYS lanes index counters
gate_buries = false

local function lane_good(joins)
  local lane, cost = joins.lane, joins.cost
  if lane == nil then return cost == nil end
  if type(lane) ~= 'string' or #lane > 200 or string.find(lane, '%z') then return false end
  return cost == nil or type(cost) == 'number' and cost >= 1 and cost <= 1e6 and cost == math.floor(cost)
end

local function lane_named(joins) return joins.lane ~= '' and joins.lane or NO_LANE end

local function lane_costing(joins, fields)
  if not joins.cost or joins.cost == 1 then return end
  fields[#fields + 1] = 'w'
  fields[#fields + 1] = string.format('%.0f', joins.cost)
end

local function lane_enter(joins, letter, fields)
  if joins.cost then lane_costing(joins, fields) end
  local id = (gate_made or lane_gate()).arrive(lane_named(joins), joins.cost, letter, fields)
  return id
end

local function lane_later(joins, fields, due, number)
  if joins.cost then lane_costing(joins, fields) end
  if not number then number = waits(due) and redis.call('HINCRBY', counters, 'sequence', 1) or 0 end
  return laned(fields, 'L', number, lane_named(joins))
end

local function lane_probe(wrong)
  return wrong(lanes, 'sorted set', redis.pcall('ZCARD', lanes)) or wrong(index, 'hash', redis.pcall('HEXISTS', index, ''))
end

local function lane_ready(tasks, now)
  local names, alone = {}, true
  for _, task in ipairs(tasks) do
    local joins = task.joins
    if joins and joins.lane and (task.lock or not task.due or task.due <= now) then names[#names + 1] = lane_named(joins) end
    alone = alone and joins and joins.unique == nil and joins.trailing == nil
  end
  if #names > 0 then lane_gate().fetch(names) end
  if alone and #names == #tasks then lane_gate().expect(#names) end
end
