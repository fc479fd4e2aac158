-- unique_read(task): read which lock of a unique key, or which throttle, a new task asks for; false if that is malformed.
-- judged(task, record): the answer for a task that is refused or joins another one; nil if it is to be accepted. Checks
-- the idempotency key, then the lock, then the limits.
-- unique_lock(task, id): give the lock to the task; the one that had it is asked to stop, if the new one supersedes it.
-- A part of enqueue's body, which uses what is defined before it there: now, refusal, accept, first_of.
-- USES unique_holder unique_claim unhexed identified field letter_in superseded waits
-- KEYS unique after index schedule counters expiring doorbell
-- ARGV task_type wake
local CONFLICTS = {
  ['return'] = true, raise = true, replace = true, reschedule = true, after = true, debounce = true}

function unique_read(task)
  task.trailing = task.joins and task.joins.trailing ~= nil
  local asked = task.joins and task.joins.unique
  if asked == nil then return true end
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

-- The fields that a task keeps when its arguments are replaced: its identity and its history.
local CARRIED = {i = true, e = true, a = true, l = true, q = true, f = true, o = true, k = true}
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

-- Move or rewrite a task that has not started; it stays the same task.
local function put_anew(held, letter, fields, due)
  local id = held.id
  if held.row then redis.call('ZREM', schedule, held.row) else redis.call('XDEL', held.stream, held.entry) end
  if not due or due <= now then
    identified(fields, id)
    local entry = redis.call('XADD', streams[letter], '*', unpack(fields))
    redis.call('HSET', index, id, letter .. entry)
    if doorbell and letter ~= 's' then ring(letter, entry) end
    return
  end
  local number = held.due == due and held.number or redis.call('HINCRBY', counters, 'sequence', 1)
  local score = string.format('%.0f', due)
  local place = string.format('d%s-%.0f', score, number)
  if place ~= id then
    identified(fields, id)
    redis.call('HSET', index, id, place)
  end
  put_row(score, number, letter, fields)
  if not earliest or due < earliest then earliest = due end
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

local function change(task, held)
  local sound = held.fields and #held.fields % 2 == 0 and #held.fields <= 900 and all_text(held.fields)
  if not sound or not streams[held.letter] then return '=' .. held.id end
  redis.call('HINCRBY', counters, 'replaced', 1)
  local letter, fields = held.letter, held.fields
  if task.lock.conflict ~= 'reschedule' then
    fields = replaced(task.fields, held.fields)
    if letter ~= 's' then letter = task.letter end
    set_lifetime(held.id, held.fields, fields)
  end
  put_anew(held, letter, fields, due_anew(task, held))
  return '=' .. held.id
end

-- Give a task that waits in the schedule the arguments of the new one; it stays the same task.
local function rewrite(task, id, row, due, number)
  local before = row_fields(row) or {}
  redis.call('HINCRBY', counters, 'replaced', 1)
  redis.call('ZREM', schedule, row)
  local fields = replaced(task.fields, before)
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
  return change(task, held)
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
  if left < 0 or left > 2 * every then left = every end  -- the interval was changed
  -- If more than an interval is left, the task that was due at the end of this one was cancelled.
  if left > every then left = left - every end
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
