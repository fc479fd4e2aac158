#!lua
-- tick: make the due run of a schedule and move the schedule to its next time, if it is as the caller saw it.
--
-- Any number of daemons may call it: `revision` and `score` say what the caller saw, and one of them finds it so.
-- The caller computes the times; the run is an entry like one of enqueue's, with the name of the run in
-- field `r`. A schedule and its state are JSON (see `schedules`); only the state is read here.
-- A run that takes part in more than its stream is made by the twin, which reads `joins`; this one answers rich where the
-- type's policy asks for it.
-- `mode`: tick; waiting, for a run that waits for the end of the one before; now, for a run beside the others.
-- `run` is the time of the run, '' where all is skipped; `upto` the latest time that is dealt with; `following`
-- and `due` are '' where nothing does; `missed` is how many times are skipped. `overlap`: skip, allow, queue_one;
-- replace, where the run before is asked to end if this one is made, or end_first, if it is made or waits for that. The
-- request stands in this script, or a run could be cancelled of which no next one is made; the caller's `cancel` makes
-- it quick, and ends one that has not started.
-- Not `allow-oom`: a full server makes no runs, which are late then.
-- USES clock in_stream ring rules_kept scheduled
-- KEYS schedules schedules_due types policy rate counters index schedule high normal low suspect expiring rules cancels
-- ARGV mode name revision score run upto following due missed overlap again_ms task_type letter joins wake fields...
-- Returns {made, local id}, {skipped, reason}, {waiting, ''}, {lost, ''} where another was here before, or {rich, ''}
local state_of, member = name .. ':state', mode == 'waiting' and name .. ':waiting' or name
local good, state = pcall(cjson.decode, redis.call('HGET', schedules, state_of) or '')
if not good or type(state) ~= 'table' or state.revision ~= tonumber(revision) then return {'lost', ''} end
if score ~= '' then
  local found = redis.call('ZSCORE', schedules_due, member)
  if not found or tonumber(found) ~= tonumber(score) then return {'lost', ''} end
end

local payload = redis.call('HGET', schedules, name .. ':payload')
if not streams[letter] or letter == 's' or (run ~= '' and not payload) or (#ARGV - first_arg) % 2 == 0 then
  return redis.error_reply('MALFORMED schedule ' .. name .. '; nothing was written')
end
local now = clock()
local stamp = string.format('%.0f', now)

-- A stored value that no app can have written counts as none.
local function whole(value)
  return type(value) == 'string' and string.match(value, '^%d+$') and #value <= 15 and tonumber(value) or nil
end

-- Return whether the last run has not ended. One of another type lies under keys that this call has not.
local function lives()
  local id = state.run
  if type(id) ~= 'string' or state.run_type ~= task_type then return false end
  local place = redis.call('HGET', index, id) or id
  --lean if string.sub(place, 1, 1) == 'k' then return true end  -- it is parked, though the type has no lanes any more
  --rich if string.sub(place, 1, 1) == 'k' then return row_at(place) ~= nil end
  local at, number = scheduled(place)
  if at then return row_of(at, number) ~= nil end
  return in_stream(place) ~= nil
end

local limits = redis.call('HMGET', policy, 'rate_limit', 'rate_period_ms', 'max_backlog', 'rich', 'gate')
-- A registration by an older release removes rules from the policy; these stay in force.
local kept = rules_kept(redis.pcall('GET', rules))
local locked, gated = limits[4] or kept.unique, limits[5] or kept.gate
--lean if run ~= '' and (locked or gated) then return {'rich', ''} end
--rich local read, asked = pcall(cjson.decode, joins)
--rich if not read or type(asked) ~= 'table' or not lane_good(asked) then
--rich   return redis.error_reply('MALFORMED schedule ' .. name .. '; nothing was written')
--rich end
--rich if run ~= '' and (locked and asked.unique == nil or gated and not asked.lane) then return {'rich', ''} end
local most, period, backlog = whole(limits[1]), whole(limits[2]), whole(limits[3])
if most == 0 or not period or period == 0 then most = nil end

local function refusal()
  if backlog then
    local held = redis.call('ZCARD', schedule)
    for _, key in pairs(streams) do held = held + redis.call('XLEN', key) end
    --rich held = held + redis.call('ZCARD', lanes)
    if held >= backlog then return 'backlog' end
  end
  local oldest = most and tonumber(redis.call('LINDEX', rate, most - 1))
  if oldest and oldest <= now and now < oldest + period then return 'rate_limit' end
end

--rich local earliest
--rich local function tell(into) ring(streams[into]) end
-- Into its stream, or where its lane lets it; later, if `at` is a time to come.
local function place(into, at, fields)
  --rich if asked.lane and not at then return lane_enter(asked, into, fields) end
  --rich if asked.lane then fields = lane_later(asked, fields, at) end
  --rich if at then
  --rich   local number, score = redis.call('HINCRBY', counters, 'sequence', 1), string.format('%.0f', at)
  --rich   fields[#fields + 1] = 'e'
  --rich   fields[#fields + 1] = stamp
  --rich   redis.call('ZADD', schedule, score, string.format('%012d', number) .. into .. cmsgpack.pack(fields))
  --rich   if not earliest or at < earliest then earliest = at end
  --rich   return string.format('d%s-%.0f', score, number)
  --rich end
  local id = into .. redis.call('XADD', streams[into], '*', unpack(fields))
  ring(streams[into])
  return id
end

local function accept(into, at, fields, expires)
  redis.call('SADD', types, task_type)
  local id = place(into, at, fields)
  redis.call('HINCRBY', counters, 'accepted', 1)
  if expires then redis.call('ZADD', expiring, expires, id) end
  if most then
    redis.call('LPUSH', rate, stamp)
    redis.call('LTRIM', rate, 0, most - 1)
    redis.call('PEXPIRE', rate, period)
  end
  return id
end

local function fields_of_run(from)
  local fields, expires = {'p', payload, 'r', name .. '@' .. run}, nil
  for n = first_arg, #ARGV, 2 do
    local value = ARGV[n + 1]
    if ARGV[n] == 'x' then
      value = string.format('%.0f', from + math.min(whole(value) or 1e13, 1e13))
      expires = value
    end
    fields[#fields + 1] = ARGV[n]
    fields[#fields + 1] = value
  end
  return fields, expires
end

-- Returns the id of the run, or nil, why there is none, and the holder of its key.
--lean local function make()
--lean   local refused = refusal()
--lean   if refused then return nil, refused end
--lean   local fields, expires = fields_of_run(now)
--lean   return accept(letter, nil, fields, expires)
--lean end
--rich local function first_of(kept)
--rich   local first = string.match(redis.call('GET', kept) or '', '^[%w._@-]+:([%w-]+)$', 17)
--rich   return first and '=' .. first
--rich end
--rich local unique_read, judged, unique_lock
--rich -- USES unique_read
--rich local task = {letter = letter, joins = asked, claims = {}}
--rich if asked.delay_ms then task.due = now + asked.delay_ms end
--rich task.fields, task.expires = fields_of_run(task.due or now)
--rich if kept.held then without_held(kept, asked, task.fields) end
--rich if not unique_read(task) then
--rich   return redis.error_reply('MALFORMED schedule ' .. name .. '; nothing was written')
--rich end
--rich if task.claims[1] then
--rich   table.insert(task.fields, 'c')
--rich   table.insert(task.fields, cmsgpack.pack(task.claims))
--rich end
--rich local record, throttle = KEYS[first_key], asked.throttle
--rich if throttle then task.digest, task.window = unhexed(throttle.key), string.format('%.0f', throttle.ms) end
--rich lane_ready({task}, now)
--rich local function make()
--rich   local answer = judged(task, record)
--rich   local mark = answer and string.sub(answer, 1, 1)
--rich   if mark == '!' then return nil, 'unique', string.match(answer, ':(.*)$') end
--rich   local kept = task.lock and task.lock.conflict == 'return' or not task.lock and not task.trailing
--rich   if mark == '=' and kept then return nil, 'unique', string.sub(answer, 2) end
--rich   if mark == '=' then return string.sub(answer, 2) end
--rich   if answer == 'backlog' or answer == 'rate_limit' then return nil, answer end
--rich   if answer then return answer end  -- it follows the holder
--rich   local id = accept(letter, task.due, task.fields, task.expires)
--rich   unique_lock(task, id)
--rich   if throttle then redis.call('SET', record, task.digest .. task_type .. ':' .. id, 'PX', task.window) end
--rich   return id
--rich end

local replaces = overlap == 'replace' or overlap == 'end_first'
local ending = replaces and lives() and state.run
if ending then redis.call('HEXISTS', cancels, ending) end  -- a damaged key must fail before anything is written
local outcome, reason, id, holder = 'made', nil, '', nil
if run == '' then
  outcome, reason = 'skipped', 'misfire'
elseif mode == 'tick' and tonumber(run) <= (tonumber(state.last) or 0) then
  outcome, reason = 'skipped', 'past'  -- the clock was set back: this time has been
elseif overlap ~= 'allow' and overlap ~= 'replace' and lives() then
  if overlap ~= 'skip' and (mode == 'waiting' or not state.waiting) then
    outcome = 'waiting'
  else
    outcome, reason = 'skipped', 'overlap'
  end
else
  id, reason, holder = make()
  if not id then outcome = 'skipped' end
end

if ending and (outcome ~= 'skipped' or reason == 'overlap') then redis.call('HSET', cancels, ending, '1') end
if outcome == 'made' then
  state.run, state.run_type, state.ran, state.at = id, task_type, tonumber(run), now
  state.runs = (tonumber(state.runs) or 0) + 1
  if mode ~= 'now' then
    state.late = score ~= '' and math.max(0, now - tonumber(score)) or 0
    local left = tonumber(state.left)
    if left then
      state.left = math.max(0, left - 1)
      if state.left == 0 then following, due = '', '' end
    end
  end
end

local function skip(why, number)
  if type(state.skipped) ~= 'table' then state.skipped = {} end
  state.skipped[why] = (tonumber(state.skipped[why]) or 0) + number
end

if tonumber(missed) > 0 then skip('misfire', tonumber(missed)) end
if outcome == 'skipped' and run ~= '' then skip(reason, 1) end

if mode == 'waiting' then
  if outcome == 'waiting' then
    redis.call('ZADD', schedules_due, string.format('%.0f', now + tonumber(again_ms)), member)
  else
    state.waiting = nil
    redis.call('ZREM', schedules_due, member)
  end
elseif mode == 'tick' and outcome == 'waiting' then
  state.waiting = tonumber(run)
  redis.call('ZADD', schedules_due, string.format('%.0f', now + tonumber(again_ms)), name .. ':waiting')
end
if mode == 'tick' then
  state.last = math.max(tonumber(state.last) or 0, tonumber(upto))
  state.next = tonumber(following)
  if following ~= '' then
    redis.call('ZADD', schedules_due, due, name)
  else
    redis.call('ZREM', schedules_due, name)
  end
elseif state.left == 0 then
  state.next = nil
  redis.call('ZREM', schedules_due, name)
end
state.revision = state.revision + 1
redis.call('HSET', schedules, state_of, cjson.encode(state))
--rich gate_close()
--rich if earliest then redis.call('PUBLISH', wake, task_type) end
return {outcome, outcome == 'made' and id or reason or '', holder}
