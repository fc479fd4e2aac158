-- unique_move(task, held): give the arguments or the due time of a call to the holder of its lock, a task that has not
-- started; it stays the same task. Returns the answer to the call.
-- replaced(new, old): the fields of a task whose arguments are replaced.
-- set_lifetime(id, before, fields): the task expires when its new fields say.
-- put_row(due, number, letter, fields): a row of the schedule.
-- A part of the bodies of enqueue and tick, which define before it: now, streams, earliest, tell.
--
-- Of a holder with a lane, what is parked keeps its place in the lane, and what is ready its slot; only a call that names
-- another lane has it ask there. One that gets a later due time asks when it is due, as a new task; a retried one of an
-- ordered lane keeps its place.
-- USES blob_enter field identified lane_again lane_enter letter_in memo_drop priority_of
-- KEYS index schedule counters expiring
-- The fields that a task keeps when its arguments are replaced: its identity and its history.
local CARRIED = {i = true, e = true, a = true, l = true, q = true, f = true, o = true, k = true, g = true}
local function replaced(new, old)
  local out = {unpack(new)}
  for n = 1, #old, 2 do
    if CARRIED[old[n]] and not field(new, old[n]) then
      out[#out + 1] = old[n]
      out[#out + 1] = old[n + 1]
    end
  end
  return out
end

local function set_lifetime(id, before, fields)
  local at = field(fields, 'x')
  if at then
    redis.call('ZADD', expiring, at, id)
  elseif before and field(before, 'x') then
    redis.call('ZREM', expiring, id)
  end
end

local function put_row(score, number, letter, fields)
  redis.call('ZADD', schedule, score, string.format('%012d', number) .. letter .. cmsgpack.pack(fields))
end

local function into_schedule(held, letter, fields, due)
  local number = held.due == due and held.number or redis.call('HINCRBY', counters, 'sequence', 1)
  local score = string.format('%.0f', due)
  local place = string.format('d%s-%.0f', score, number)
  if place ~= held.id then
    identified(fields, held.id)
    redis.call('HSET', index, held.id, place)
  end
  put_row(score, number, letter, fields)
  if not earliest or due < earliest then earliest = due end
end

local function into_stream(held, letter, fields)
  identified(fields, held.id)
  local entry = redis.call('XADD', streams[letter], '*', unpack(fields))
  redis.call('HSET', index, held.id, letter .. entry)
  if letter ~= 's' then tell(letter, entry) end
end

-- Take the holder from its place, with the slot of its lane.
local function lift(held)
  if held.row then
    redis.call('ZREM', schedule, held.row)
  elseif held.parked then
    lane_gate().take(held.parked)
  else
    redis.call('XDEL', held.stream, held.entry)
  end
  if held.kind == 'l' then lane_gate().release(held.lane, held.id, nil, held.place) end
end

local function put_anew(held, letter, fields, due)
  lift(held)
  if due and due > now then into_schedule(held, letter, fields, due) else into_stream(held, letter, fields) end
end

-- The lane of the holder, its number there and its cost; nil where it has none.
local function lane_of_holder(held)
  local found = held.parked
  if found then
    held.lane, held.lane_number, held.cost = found.lane, found.number, found.cost
  else
    held.lane, held.lane_number, held.kind = lane_of(field(held.fields, 'c'))
    held.cost = field(held.fields, 'w')
  end
  return held.lane
end

-- The same for tasks with a lane: `lane` and `cost` are those that it is to have.
local function put_in_lane(held, letter, fields, due, lane, cost)
  local same, later = lane == held.lane, due and due > now
  local number = same and (held.row or field(fields, 'a')) and held.lane_number or 0
  if held.parked and same and (not later or (field(fields, 'a') and lane_gate().record(lane).ordered)) then
    return lane_gate().rewrite(held.parked, letter, cost, fields, due or held.parked.due)
  end
  if held.kind == 'l' and same and not later then  -- the slot goes with it
    redis.call('XDEL', held.stream, held.entry)
    return into_stream(held, letter, lane_moved(laned(fields, 'l', held.lane_number, lane), held.place, letter))
  end
  lift(held)
  if later then return into_schedule(held, letter, laned(fields, 'L', number, lane), due) end
  identified(fields, held.id)
  lane_gate().arrive(lane, cost, letter, fields, held.id, number)
end

-- The new due time of the holder; nil if it is ready at once or stays in a stream.
local function due_anew(task, held)
  local conflict = task.lock.conflict
  -- A task that failed keeps the time of its retry, and one that was handed back goes first.
  local fixed = conflict == 'replace' or (conflict == 'debounce' and field(held.fields, 'a'))
  if fixed or held.letter == 's' then return held.due end
  local due = task.due or now
  if conflict == 'debounce' and task.lock.most then
    due = math.min(due, (tonumber(field(held.fields, 'e')) or now) + task.lock.most)
  end
  return due
end

local function unique_move(task, held)
  local sound = held.fields and #held.fields % 2 == 0 and #held.fields <= 900 and all_text(held.fields)
  if not sound or not streams[held.letter] then return '=' .. held.id end
  local lane, asked = lane_of_holder(held), task.joins.lane
  if lane and not asked then return '=' .. held.id end  -- the type has lost its lanes: it is left to end
  redis.call('HINCRBY', counters, 'replaced', 1)
  local letter, fields, cost = held.letter, held.fields, held.cost
  if task.lock.conflict ~= 'reschedule' then
    fields = replaced(task.fields, held.fields)
    if letter ~= 's' then
      letter = task.letter
      if asked then lane, cost = lane_named(task.joins), task.joins.cost end
    end
    if lane then lane_costing(task.joins, fields) end
    set_lifetime(held.id, held.fields, fields)
    blob_moved(held.fields, fields)
    if field(held.fields, 'a') then memo_drop(held.id) end  -- its steps ran with the arguments of before
  end
  local due = due_anew(task, held)
  if lane then put_in_lane(held, letter, fields, due, lane, cost or 1) else put_anew(held, letter, fields, due) end
  return '=' .. held.id
end
