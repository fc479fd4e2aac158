#!lua flags=allow-oom
-- recount: count anew what each lane holds, a step of it, and admit who may go by that.
--
-- Needed only where an entry was deleted behind our back, or ended by what does not know of lanes. The queue goes on: a
-- count walks the streams and the schedule (`counting` in the policy says how far it is), and each script that adds or
-- takes away an entry behind it changes what was counted (lane_gate). So both numbers are exact when they are
-- compared. Any process may take the next step; a mark `recount` that is set meanwhile asks for another count.
-- USES lane_entries lane_gate lane_tell
-- KEYS policy
-- ARGV limit bytes task_type wake
-- Returns {1 if there is more to do, {lane, held as written, held as counted}... of lanes where these differed}
local wrong, over = {}, false
local g = lane_gate()
local counting = g.begin()
local following = {s = 'h', h = 'n', n = 'l', l = 'd', d = 'c'}

local sums, names = {}, {}
local function found(_, fields)
  local lane, _, kind = lane_of(field(fields, 'c'))
  if kind ~= 'l' then return end
  if not sums[lane] then names[#names + 1] = lane end
  sums[lane] = (sums[lane] or 0) + 1
end

-- What is written of a lane, without what was counted; and that number. The gate would read all rules for it.
local function parts_of(text)
  local record, counted, stamp = string.match(text, '^(.*);(%d+)@(%d+)$')
  record = string.match(record or text, '^[^;]*;[^;]*;[^;]*;[^;]*;[^;]*$') or ';;;;'  -- else streamq did not write it
  return record, stamp == counting.stamp and tonumber(counted) or 0
end

local function add()
  if #names == 0 then return end
  local written = {}
  for n, text in ipairs(redis.call('HMGET', slots, unpack(names))) do
    local record, counted = parts_of(text or '')
    written[#written + 1] = names[n]
    written[#written + 1] = string.format('%s;%.0f@%s', record, counted + sums[names[n]], counting.stamp)
  end
  redis.call('HSET', slots, unpack(written))
end

local function compare()
  local read = redis.call('HSCAN', slots, counting.cursor, 'COUNT', limit)
  for n = 1, #read[2], 2 do
    local lane = read[2][n]
    local record, counted = parts_of(read[2][n + 1])
    local differs = lane ~= '' and (tonumber(string.match(record, '^[^;]*')) or 0) ~= counted
    local r = differs and g.record(lane)
    if r and r.held ~= r.counted then
      wrong[#wrong + 1] = {lane, r.held, r.counted}
      r.held = r.counted
      g.touch(lane)
    end
  end
  counting.cursor = read[1]
  return read[1] == '0'
end

if counting.letter == 'c' then
  over = compare()
else
  local last = lane_entries(counting, tonumber(limit), tonumber(bytes), found)
  add()
  if last then
    counting.letter = following[counting.letter]
    counting.cursor = counting.letter == 'c' and '0' or ''
  end
end
if #wrong > 0 then redis.call('HINCRBY', counters, 'repaired', #wrong) end
gate_close()
if over then
  redis.call('HDEL', policy, 'counting')
else
  redis.call('HSET', policy, 'counting', counting.stamp .. ' ' .. counting.letter .. counting.cursor)
end
return {over and 0 or 1, wrong}
