-- unique_read(task): read which lock of a unique key a new task asks for; false if that is malformed.
-- judged(task, record): the answer for a task that is refused or joins another one; nil if it is to be accepted. Checks
-- the idempotency key, then the lock, then the limits.
-- unique_lock(task, id): give the lock to the task.
-- What a task joins as `unique` is a lock; true where its caller does not know the policy's rule; else it takes none.
-- A part of the bodies of enqueue and tick, which define before it: now, refusal, accept, first_of, and what unique_move
-- needs.
-- USES unique_holder unique_claim unique_move lane_enter unhexed field waits
-- KEYS unique after index schedule
-- ARGV task_type
local CONFLICTS = {
  ['return'] = true, raise = true, replace = true, reschedule = true, after = true, debounce = true}

function unique_read(task)
  local asked = task.joins and task.joins.unique
  if not asked or asked == true then return true end
  if type(asked) ~= 'table' or type(asked.key) ~= 'string' or type(asked.group) ~= 'string' then return false end
  local most = asked.max_wait_ms
  if most ~= nil and (type(most) ~= 'number' or not (most >= 0 and most < 1e13)) then return false end
  local what = unhexed(asked.key)
  if not what or not CONFLICTS[asked.conflict] then return false end
  task.lock = {what = what, group = asked.group, conflict = asked.conflict, most = most}
  table.insert(task.claims, 'u')
  table.insert(task.claims, what)
  if asked.free == 'started' then
    table.insert(task.claims, 'us')
    table.insert(task.claims, '')
  end
  return true
end

-- The fields of a task that follows the holder, with its place in its lane: that of the call that created it, unless this
-- one names another lane.
local function following_fields(task, before)
  local fields = replaced(task.fields, before)
  if not task.joins.lane then return fields end
  local lane, number = lane_of(field(before, 'c'))
  return lane_later(task.joins, fields, WAITS, lane == lane_named(task.joins) and number or nil)
end

-- The task that follows the holder: the first call creates it, a later one rewrites it.
local function follow(task, id)
  local due, number = scheduled(id or '')
  local row = due and row_of(due, number)
  if row then
    local before = row_fields(row) or {}
    local fields = following_fields(task, before)
    redis.call('ZREM', schedule, row)
    put_row(due, number, task.letter, fields)
    set_lifetime(id, before, fields)
    return '=' .. id
  end
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
  if started and until_started and not following then return nil end
  if lock.conflict == 'return' then return '=' .. held.id end
  if lock.conflict == 'raise' then return '!unique:' .. held.id end
  if started or lock.conflict == 'after' then return follow(task, following) end
  return unique_move(task, held)
end

function judged(task, record)
  local first = task.digest and first_of(record, task.digest)
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
end
