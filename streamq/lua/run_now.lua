#!lua flags=allow-oom
-- run_now: make a scheduled task ready at once, or one that waits in its lane the lane's first.
--
-- A scheduled task that has a lane asks it. `force` 1: it passes the limits, and counts in them. In an ordered lane
-- nobody overtakes. The sleep of one that is suspended is over; what waits for a signal stays. `awake`: the memo of
-- a sleep that is over.
-- USES field lane_gate lane_row lane_tell note ready_now row_fields scheduled waits
-- KEYS schedule index high normal low steps
-- ARGV id force awake action about task_type wake
-- Returns 1, 0 where the task is neither scheduled nor parked, -1 where its lane is ordered, or -2 where it waits for a signal
local streams = {h = high, n = normal, l = low}
local place = redis.call('HGET', index, id) or id

local function done()
  note(1)
  gate_close()
  return 1
end

local function out_of_lane(parked)
  local fields = parked and row_packed(parked)
  if not fields then return 0 end
  local g = lane_gate()
  if g.record(parked.lane).ordered then return -1 end
  if force == '1' then g.force(parked, fields) else g.bring(parked, fields) end
  return done()
end

if string.sub(place, 1, 1) == 'k' then return out_of_lane(row_at(place)) end
local due, number = scheduled(place)
local row = due and row_of(due, number)
-- A task that waits for the end of another one would run beside it.
if not row or waits(due) then return 0 end
local letter = string.match(row, '%D')
local fields = row_fields(row)
if not fields or not streams[letter] then return 0 end  -- promote will bury it
local memo = field(fields, 's')
local at = memo and id .. '\0' .. memo
local told = memo and redis.call('HGET', steps, at) or ''
if string.sub(told, 1, 1) == '~' then return -2 end
if string.gsub(told, '%d+}$', '0}') == awake then redis.call('HSET', steps, at, awake) end
local parked = ready_now(row, fields, id, place)
if parked and force == '1' then return out_of_lane(row_at(redis.call('HGET', index, id))) end
return done()
