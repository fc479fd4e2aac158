-- lane_rules(): return the rules of a task type, the records of its lanes, and when a task may run. Changes nothing.
-- The answer has: whole (rules and record of the type), record(lane), records (those read so far), ready_at(of, cost,
-- due), room(), used(), now (us), now_ms, counting (the recount under way) and stored (see lane_policy). fetch(names) reads
-- the records of several lanes that will be asked for.
--
-- The policy's field `gate` has running;interval;burst;fair;order;halt of the type and running;interval;burst;weight
-- of a lane, each empty if there is no such rule; an interval is the us of one unit of cost. `limits` has what an operator
-- has set instead for a lane, or in field '' for the type: running;interval;burst;weight. There, empty means as in the
-- policy, and `-` means no limit. A stored value that streamq cannot have written counts as no rule.
-- USES clock lane_passed lane_policy lane_row
-- KEYS slots limits policy high normal low suspect
local function lane_rules()
  local now_ms, time = clock()
  local now = time[1] * 1000000 + time[2]

  local function split(text)
    local parts = {}
    for part in string.gmatch((text or '') .. ';', '([^;]*);') do parts[#parts + 1] = part end
    return parts
  end

  local function sound(text, least)
    if text == '' then return nil end
    local value = text and tonumber(text)
    return value and value >= least and value < 1e16 and value or nil
  end

  local stored = lane_policy()
  local gate = split(stored.gate)
  local overruled = redis.call('EXISTS', limits) == 1

  -- Read running, interval, burst and weight from the policy: once, since there may be many lanes.
  local function read(running, interval, burst, weight)
    return {
      running = sound(running, 0) or math.huge, interval = sound(interval, 0.001), burst = sound(burst, 1) or 1,
      weight = sound(weight, 0.000001) or 1}
  end

  local no_rules, of_lanes = read(), read(gate[7], gate[8], gate[9], gate[10])

  -- Set the same of a record, by the policy or by what an operator has set.
  local function ruled(of, lane, by)
    by = by or no_rules
    of.running, of.interval, of.burst, of.weight = by.running, by.interval, by.burst, by.weight
    if overruled then
      local set = split(redis.call('HGET', limits, lane) or nil)
      if set[1] and set[1] ~= '' then of.running = sound(set[1], 0) or math.huge end
      if set[2] and set[2] ~= '' then of.interval = sound(set[2], 0.001) end
      if set[3] and set[3] ~= '' then of.burst = sound(set[3], 1) or 1 end
      if set[4] and set[4] ~= '' then of.weight = sound(set[4], 0.000001) or 1 end
    end
    -- After a rate was raised, or the clock set back, nothing waits for a TAT of the old rate or time.
    if of.interval then of.tat = math.min(of.tat, now + of.burst * of.interval) else of.tat = 0 end
    return of
  end

  local kept = {}  -- the text of each record as it was read from `slots`

  local function loaded(lane)
    local text = redis.call('HGET', slots, lane) or ''
    kept[lane] = text
    return split(text)
  end

  local parts = loaded('')
  local whole = ruled(
    {tat = sound(parts[1], 0) or 0, virtual = sound(parts[2], 0) or 0, newest = sound(parts[3], 0) or 0},
    '', read(gate[1], gate[2], gate[3]))
  whole.fair, whole.order, whole.halt = gate[4] == '1', gate[5] == '1', gate[6] == '1'
  whole.window = math.max(1, sound(stored.window, 1) or 64)
  whole.room = math.min(whole.running, whole.fair and whole.window or math.huge)

  local records, b = {}, {counting = counting_of(stored.counting)}

  -- Return how many slots of a lane the recount under way has found: see recount.
  local function tallied(text)
    local number, stamp = string.match(text or '', '^(%d+)@(%d+)$')
    return stamp == b.counting.stamp and sound(number, 0) or 0
  end

  -- Return a lane's record with its rules. Nearly every lane has slots and nothing else, or has no record; many have the same.
  local only_slots = {[''] = 0}
  local function read_record(lane, text, by)
    local held = only_slots[text]
    if not held then
      held = tonumber(string.match(text, '^(%d+);;;;$'))
      if held and held < 1e16 then only_slots[text] = held end
    end
    if held and held < 1e16 and not overruled then
      return {
        held = held, tat = 0, finish = 0, held_until = 0, halt = '', running = by.running, interval = by.interval,
        burst = by.burst, weight = by.weight}
    end
    local tat, finish, until_, halt
    held, tat, finish, until_, halt = string.match(text, '^([^;]*);([^;]*);([^;]*);([^;]*);([^;]*)')
    if not held then return ruled({held = 0, tat = 0, finish = 0, held_until = 0, halt = ''}, lane, by) end  -- not ours
    return ruled({
      held = sound(held, 0) or 0, tat = sound(tat, 0) or 0, finish = sound(finish, 0) or 0,
      held_until = sound(until_, 0) or 0, halt = halt}, lane, by)
  end

  local function record(lane)
    local r = records[lane]
    if r then return r end
    local text = kept[lane]
    if not text then
      text = redis.call('HGET', slots, lane) or ''
      kept[lane] = text
    end
    local named = lane ~= NO_LANE
    r = read_record(lane, text, named and of_lanes or no_rules)
    if b.counting then r.counted = tallied(string.match(text, '^[^;]*;[^;]*;[^;]*;[^;]*;[^;]*;(.*)$')) end
    records[lane] = r
    r.ordered = whole.order and named
    if r.ordered then r.running = math.min(r.running, 1) end
    return r
  end

  function b.fetch(names)
    for first = 1, #names, 1000 do
      local last = math.min(first + 999, #names)
      local texts = redis.call('HMGET', slots, unpack(names, first, last))
      for n = first, last do kept[names[n]] = texts[n - first + 1] or '' end
    end
  end

  -- Return when (us) a task of this cost may run by the rate. A cost above the burst is charged as the burst: otherwise the
  -- task could never run.
  local function ready_at(of, cost, due)
    local ready = of.held_until or 0
    if due > 0 then ready = math.max(ready, due * 1000) end
    if not of.interval then return ready end
    return math.max(ready, of.tat + (math.min(cost, of.burst) - of.burst) * of.interval)
  end

  -- b.used() is the number of entries in the streams. A script that changes the streams sets b.entries to nil.
  b.now_ms, b.now, b.whole, b.record, b.records, b.kept = now_ms, now, whole, record, records, kept
  function b.used()
    if not b.entries then
      b.entries = 0
      for _, key in ipairs({high, normal, low, suspect}) do b.entries = b.entries + redis.call('XLEN', key) end
    end
    return b.entries
  end

  function b.room() return whole.room == math.huge and math.huge or whole.room - b.used() end

  b.ready_at, b.stored = ready_at, stored
  return b
end
