#!lua flags=no-writes,allow-stale
-- audit_turns: check lanes, each at one instant: whether those that may go have their turn, whether something looks again
-- at those that time lets go, and whether what halts one is there.
--
-- `of`: walk on through the lanes that have rows (lanes), or through turns, ripe or slots; or check the lanes that are
-- named ('' and no cursor). Nothing is checked while a change of the rules is being brought to all lanes (`sweep`).
-- USES lane_row lane_rules lane_why
-- KEYS lanes turns ripe slots letters policy
-- ARGV of cursor limit names...
-- Returns {the cursor to go on from, or '' at the end, checked, {problem, lane...}}
local problems, checked, seen, next_ = {}, 0, {}, ''

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

local function fault(lane)
  local b = book()
  local r, head = b.record(lane), first_of(lane)
  if r.halt ~= '' and redis.call('HEXISTS', letters, r.halt) == 0 then return 'orphaned_halt' end
  local score, timer = redis.call('ZSCORE', turns, lane), tonumber(redis.call('ZSCORE', ripe, lane) or nil)
  if not head and r.held == 0 then return score and 'stale_turn' or residue(r, timer) end
  local free = head and r.halt == '' and r.held < r.running
  local ready = head and b.ready_at(r, head.cost, head.due) or 0
  local found = stuck(lane, ready, free, score, timer)
  return found or timer and timer > b.now_ms and not (free and ready > b.now) and 'stale_timer'
end

local function check(lane)
  if lane == '' or seen[lane] then return end
  seen[lane] = true
  checked = checked + 1
  local name = fault(lane)
  if name then
    problems[#problems + 1] = name
    problems[#problems + 1] = lane
  end
end

local function walk_lanes()
  next_ = cursor
  for _ = 1, limit do
    local row = redis.call('ZRANGE', lanes, next_ == '' and '-' or '(' .. next_ .. '\1', '+', 'BYLEX', 'LIMIT', 0, 1)[1]
    if not row then
      next_ = ''
      return
    end
    next_ = string.match(row, '^([^%z]+)%z') or row
    check(next_)
  end
end

local function scan(command, key)
  local found = redis.call(command, key, cursor == '' and '0' or cursor, 'COUNT', limit)
  for n = 1, #found[2], 2 do check(found[2][n]) end
  next_ = found[1] ~= '0' and found[1] or ''
end

local swept = redis.pcall('HEXISTS', policy, 'sweep')
if swept == 1 then return {'', 0, {}} end
for n = first_arg, #ARGV do check(ARGV[n]) end
if of == 'lanes' then walk_lanes() end
if of == 'turns' then scan('ZSCAN', turns) end
if of == 'ripe' then scan('ZSCAN', ripe) end
if of == 'slots' then scan('HSCAN', slots) end
return {next_, checked, problems}
