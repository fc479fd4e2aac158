#!lua flags=no-writes,allow-stale
-- audit_turns: check lanes, each at one instant: whether those that may go have their turn, whether something looks again
-- at those that time lets go, and whether what halts one is there.
--
-- Check the lanes that are named, then walk on through the lanes that have rows (`of` lanes), or through turns, ripe or slots
-- for lanes that have no row, for as long as `in_time` allows; with `of` '' only those that are named. Nothing is checked
-- while a change of the rules is being brought to all lanes (`sweep`).
-- USES in_order in_time lane_row lane_rules lane_why
-- KEYS lanes turns ripe slots letters policy
-- ARGV of cursor limit names...
-- Returns {the cursor to go on from, or '' at the end, checked, {problem, lane...}, {lanes to name in the next call...}}
local problems, checked, seen, next_, left = {}, 0, {}, cursor, {}

local function stuck(lane, ready, free, score, timer)
  local b = book()
  if free and ready <= b.now then return not score and not (timer and timer <= b.now_ms) and 'stuck_lane' end
  if score then return 'stale_turn' end
  if free then return not (timer and timer <= math.ceil(ready / 1000) + 1) and 'missing_timer' end
end

-- A lane that has no rows and no slots is forgotten when its rate, and what holds it back, are past.
local function residue(r, timer)
  local b, last = book(), math.max(r.tat, r.held_until)
  if timer and timer > math.max(b.now_ms, math.ceil(last / 1000) + 1) then return 'stale_timer' end
  return not timer and (last > 0 or r.finish > 0) and r.halt == '' and 'missing_timer'
end

local function fault(lane, head)
  local b = book()
  local r = b.record(lane)
  if r.halt ~= '' and redis.call('HEXISTS', letters, r.halt) == 0 then return 'orphaned_halt' end
  local score, timer = redis.call('ZSCORE', turns, lane), tonumber(redis.call('ZSCORE', ripe, lane) or nil)
  if not head and r.held == 0 then return score and 'stale_turn' or residue(r, timer) end
  local free = head and r.halt == '' and r.held < r.running
  local ready = head and b.ready_at(r, head.cost, head.due) or 0
  local found = stuck(lane, ready, free, score, timer)
  return found or timer and timer > b.now_ms and not (free and ready > b.now) and 'stale_timer'
end

local function check(lane, head)
  if lane == '' or seen[lane] then return end
  seen[lane] = true
  checked = checked + 1
  local name = fault(lane, head)
  if name then
    problems[#problems + 1] = name
    problems[#problems + 1] = lane
  end
end

-- Read more rows at a time while each is another lane's and they are short: each look into `lanes` takes its time.
local function walk_lanes()
  local chunk, others = 1, 0
  repeat
    local rows = redis.call(
      'ZRANGE', lanes, next_ == '' and '-' or '(' .. next_ .. '\1', '+', 'BYLEX', 'LIMIT', 0, chunk)
    local size = 0
    others = 0
    for _, row in ipairs(rows) do
      local lane = string.match(row, '^([^%z]+)%z') or row
      if lane ~= next_ and in_order(next_, lane) then
        next_, others, size = lane, others + 1, size + #row
        check(lane, lane_row(row) or first_of(lane))
      end
    end
    if others == 0 then
      next_ = ''
      return
    end
    chunk = others == chunk and size < 16384 and math.min(16, chunk * 2) or 1
  until not in_time(others)
end

-- A compact hash or set answers with all that it has, whatever the limit.
local function scan(command, key)
  repeat
    local found = redis.call(command, key, next_ == '' and '0' or next_, 'COUNT', limit)
    next_ = found[1] ~= '0' and found[1] or ''
    for n = 1, #found[2], 2 do
      local lane = found[2][n]
      if not in_time(1) and n > 1 then
        left[#left + 1] = lane
      elseif not first_of(lane) then
        check(lane, false)
      end
    end
  until next_ == '' or not in_time(0)
end

local swept = redis.pcall('HEXISTS', policy, 'sweep')
if swept == 1 then return {'', 0, {}, {}} end
for n = first_arg, #ARGV do
  if not in_time(1) and n > first_arg then left[#left + 1] = ARGV[n] else check(ARGV[n], first_of(ARGV[n])) end
end
if #left > 0 then return {cursor, checked, problems, left} end
if of == 'lanes' then walk_lanes() end
if of == 'turns' then scan('ZSCAN', turns) end
if of == 'ripe' then scan('ZSCAN', ripe) end
if of == 'slots' then scan('HSCAN', slots) end
return {next_, checked, problems, left}
