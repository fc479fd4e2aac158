-- unique_read(task): read which lock of a unique key, or which throttle, a new task asks for; false if that is malformed.
-- judged(task, record): the answer for a task that is refused or joins another one; nil if it is to be accepted. Checks
-- the idempotency key, then the lock, then the limits.
-- unique_lock(task, id): give the lock to the task; the one that had it is asked to stop, if the new one supersedes it.
-- What a task joins as `unique` is a lock; true where its caller does not know the policy's rule; else it takes none.
-- A part of the bodies of enqueue and tick, which define before it: now, refusal, accept, first_of, and what unique_move
-- needs.
-- USES blob_enter unique_holder unique_claim unique_move lane_enter unhexed field superseded waits
-- KEYS unique after index schedule counters
-- ARGV task_type wake
local CONFLICTS = {
  ['return'] = true, raise = true, replace = true, reschedule = true, after = true, debounce = true}

function unique_read(task)
  task.trailing = task.joins and task.joins.trailing ~= nil
  local asked = task.joins and task.joins.unique
  if not asked or asked == true then return true end
  if type(asked) ~= 'table' or type(asked.key) ~= 'string' or type(asked.group) ~= 'string' then return false end
  local most = asked.max_wait_ms
  if most ~= nil and (type(most) ~= 'number' or not (most >= 0 and most < 1e13)) then return false end
  local what = unhexed(asked.key)
  if not what or not CONFLICTS[asked.conflict] then return false end
  task.lock = {
    what = what, group = asked.group, conflict = asked.conflict, most = most, supersedes = asked.supersede ~= nil}
  table.insert(task.claims, 'u')
  table.insert(task.claims, what)
  if asked.free == 'started' then
    table.insert(task.claims, 'us')
    table.insert(task.claims, '')
  end
  return true
end

-- The fields of a task that waits in the schedule for a new one's arguments, with its place in its lane: that of the call
-- that created it, unless this one names another lane.
local function following_fields(task, before)
  local fields = replaced(task.fields, before)
  if not task.joins.lane then return fields end
  local lane, number = lane_of(field(before, 'c'))
  return lane_later(task.joins, fields, WAITS, lane == lane_named(task.joins) and number or nil)
end

-- Give a task that waits in the schedule the arguments of the new one; it stays the same task.
local function rewrite(task, id, row, due, number)
  local before = row_fields(row) or {}
  redis.call('HINCRBY', counters, 'replaced', 1)
  redis.call('ZREM', schedule, row)
  local fields = following_fields(task, before)
  blob_moved(before, fields)
  put_row(due, number, task.letter, fields)
  set_lifetime(id, before, fields)
  return '=' .. id
end

-- The task that follows the holder: the first call creates it, a later one rewrites it.
local function follow(task, id)
  local due, number = scheduled(id or '')
  local row = due and row_of(due, number)
  if row then return rewrite(task, id, row, due, number) end
  local refused = refusal()
  if refused then return refused end
  local before = earliest
  id = accept(task.letter, WAITS, task.fields, task.expires)
  earliest = before
  redis.call('HSET', after, task.lock.what, id)
  return id
end

local function conflict(task)
  local lock = task.lock
  local held = lock and unique_holder(lock.what, lock.group)
  if not held then return nil end
  local following, started = redis.call('HGET', after, lock.what), held.state == 'started'
  -- A task that holds its key until it has started has lost it now, unless another one waits for its end.
  local _, until_started = unique_claim(held.fields and field(held.fields, 'c'))
  local older = lock.supersedes and started and held.fields and held.id
  if started and until_started and not following then
    task.older = older
    return nil
  end
  if lock.conflict == 'return' or lock.conflict == 'raise' then
    redis.call('HINCRBY', counters, 'joined', 1)
    return (lock.conflict == 'return' and '=' or '!unique:') .. held.id
  end
  if started or lock.conflict == 'after' then
    local answer = follow(task, following)
    if older and string.sub(answer, 1, 1) ~= '!' then superseded(older) end
    return answer
  end
  return unique_move(task, held)
end

local function live_from(task, due)
  if not task.expires or due <= now then return end
  task.expires = string.format('%.0f', task.expires + due - now)
  for n = 1, #task.fields, 2 do
    if task.fields[n] == 'x' then task.fields[n + 1] = task.expires end
  end
end

-- A call within the interval of a throttle: the first creates a task that is due at the interval's end, where the next
-- interval begins, a later one rewrites it. The record names the last task of the key, and ends with its interval.
local function trailing(task, record, id)
  local due, number = scheduled(id)
  local row = due and row_of(due, number)
  if row then
    live_from(task, tonumber(due))
    return rewrite(task, id, row, due, number)
  end
  local every, left = tonumber(task.window), redis.call('PTTL', record)
  local planned = tonumber(string.match(id, '^d(%d+)%-'))
  if left < 0 or left > 2 * every then
    left = every  -- the interval was changed
  elseif left > every and planned and planned > now then
    left = left - every  -- the task that was due at the end of this interval was cancelled
  end
  left = math.min(left, every)  -- the server's clocks for lifetimes and for scripts differ by up to a millisecond
  task.due, task.window = now + left, string.format('%.0f', left + every)
  live_from(task, task.due)
  return refusal()
end

function judged(task, record)
  local first = task.digest and first_of(record, task.digest)
  if first and task.trailing and string.sub(first, 1, 1) == '=' then
    return trailing(task, record, string.sub(first, 2))
  end
  if first then return first end
  local answer = conflict(task)
  if answer and task.digest and string.sub(answer, 1, 1) ~= '!' then
    local id = string.gsub(answer, '^=', '')
    redis.call('SET', record, task.digest .. task_type .. ':' .. id, 'PX', task.window)
  end
  return answer or refusal()
end

function unique_lock(task, id)
  if task.lock then redis.call('HSET', unique, task.lock.what, id) end
  if task.older then superseded(task.older) end
end
