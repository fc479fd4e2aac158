#!lua
-- tick: make the due run of a schedule and move the schedule to its next time, if it is as the caller saw it.
--
-- Any number of daemons may call it: `revision` and `score` say what the caller saw, and one of them finds it so.
-- The times are reckoned by the caller; the run is an entry like one of enqueue's, with the name of the run in
-- field `r`. What a schedule is and how it stands are JSON (see `schedules`); only the state is read here.
-- `mode`: tick; waiting, for a run that waits for the end of the one before; now, for a run beside the others.
-- `run` is the time of the run, '' where all is skipped; `upto` the latest time that is dealt with; `following`
-- and `due` are '' where nothing does; `missed` is how many times are skipped. `overlap`: skip, allow, queue_one.
-- Not `allow-oom`: a full server makes no runs, which are late then.
-- USES clock in_stream ring scheduled
-- KEYS schedules schedules_due types policy rate counters index schedule high normal low suspect expiring
-- ARGV mode name revision score run upto following due missed overlap again_ms task_type letter fields...
-- Returns {made, local id}, {skipped, reason}, {waiting, ''}, or {lost, ''} where another was here before
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

-- Whether the last run has not ended. One of another type lies under keys that this call has not.
local function lives()
  local id = state.run
  if type(id) ~= 'string' or state.run_type ~= task_type then return false end
  local place = redis.call('HGET', index, id) or id
  local at, number = scheduled(place)
  if at then return row_of(at, number) ~= nil end
  return in_stream(place) ~= nil
end

local limits = redis.call('HMGET', policy, 'rate_limit', 'rate_period_ms', 'max_backlog')
local most, period, backlog = whole(limits[1]), whole(limits[2]), whole(limits[3])
if most == 0 or not period or period == 0 then most = nil end

local function refusal()
  if backlog then
    local held = redis.call('ZCARD', schedule)
    for _, key in pairs(streams) do held = held + redis.call('XLEN', key) end
    if held >= backlog then return 'backlog' end
  end
  local oldest = most and tonumber(redis.call('LINDEX', rate, most - 1))
  if oldest and oldest <= now and now < oldest + period then return 'rate_limit' end
end

local outcome, reason = 'made', nil
if run == '' then
  outcome, reason = 'skipped', 'misfire'
elseif mode == 'tick' and tonumber(run) <= (tonumber(state.last) or 0) then
  outcome, reason = 'skipped', 'past'  -- the clock was set back: this time has been
elseif overlap ~= 'allow' and lives() then
  if overlap == 'queue_one' and (mode == 'waiting' or not state.waiting) then
    outcome = 'waiting'
  else
    outcome, reason = 'skipped', 'overlap'
  end
else
  reason = refusal()
  if reason then outcome = 'skipped' end
end

local id = ''
if outcome == 'made' then
  redis.call('SADD', types, task_type)
  local fields, expires = {'p', payload, 'r', name .. '@' .. run}, nil
  for n = first_arg, #ARGV, 2 do
    local value = ARGV[n + 1]
    if ARGV[n] == 'x' then
      value = string.format('%.0f', now + math.min(whole(value) or 1e13, 1e13))
      expires = value
    end
    fields[#fields + 1] = ARGV[n]
    fields[#fields + 1] = value
  end
  id = letter .. redis.call('XADD', streams[letter], '*', unpack(fields))
  ring(streams[letter])
  redis.call('HINCRBY', counters, 'accepted', 1)
  if expires then redis.call('ZADD', expiring, expires, id) end
  if most then
    redis.call('LPUSH', rate, stamp)
    redis.call('LTRIM', rate, 0, most - 1)
    redis.call('PEXPIRE', rate, period)
  end
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
return {outcome, outcome == 'made' and id or reason or ''}
