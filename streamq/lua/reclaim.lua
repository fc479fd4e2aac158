#!lua flags=allow-oom
-- reclaim: take back abandoned deliveries of one stream: as new entries, or as dead letters past the limit.
--
-- The new entry fences the old worker: its delivery no longer exists. A task that may lose only one more
-- delivery goes to the stream of suspects, which a worker runs one at a time and apart from all others
-- (worker/suspects.py). A suspect becomes a dead letter when it kills its child process, which its worker
-- settles, or here after three times `max_lost` losses. If something else deleted the entry, a dead letter
-- remains (vanished). Each XAUTOCLAIM takes one delivery, which XPENDING showed as abandoned: over a longer
-- range it would also drop deleted entries of living workers.
-- `expected_ms` is the time that the caller expects of the server's clock (0: unknown). Idle times are
-- wall-clock times, so after a jump nothing is changed and the caller must renew all leases first.
-- The heartbeat of a worker has the lease that it renews under. If the policy's is shorter, the worker does not
-- know it yet, and its deliveries keep the longer one.
-- USES changed clock dead_letter end_task lane_again lane_claim lane_ghost lane_tell priority_of ring memo_claimed unique_enter unique_lost vanished flow_claim blob_claim
-- KEYS stream policy suspect index counters cancels heartbeats
-- ARGV group letter cursor limit expected_ms default_lease_ms default_max_lost done task_type wake
-- Returns {next cursor, now_ms, returned, dead, cancelled, whether the policy is no hash} or {'skew', now_ms}
local limit, expected = tonumber(limit), tonumber(expected_ms)

local now = clock()
local stamp = string.format('%.0f', now)
local policy = redis.pcall('HMGET', policy, 'lease_ms', 'max_lost')
-- A stored value that no app can have written counts as missing. A policy that is not a hash stops no task.
local unread = policy.err and 1 or 0
local function whole(value, least, otherwise)
  local number = tonumber(value)
  if number and number >= least and number < 1e15 then return math.floor(number) end
  return tonumber(otherwise)
end
local lease, may_lose = whole(policy[1], 200, default_lease_ms), whole(policy[2], 1, default_max_lost)
-- A suspect that is lost with its whole worker is not proved guilty, but a task that kills every host must end.
local max_lost = may_lose == 1 and 1 or 3 * may_lose
if expected > 0 and math.abs(now - expected) > math.max(1000, lease / 4) then return {'skew', now} end

local promises = {}
local function promised(worker)
  if not promises[worker] then
    local told = redis.pcall('HGET', heartbeats, worker)
    promises[worker] = whole(type(told) == 'string' and string.match(told, '"lease_ms":(%d+)'), 1, 0)
  end
  return promises[worker]
end

local function with_loss(failures, attempt, owner)
  local loss = cjson.encode({
    attempt = attempt, at_ms = now, worker = owner, error = 'WorkerLost', traceback = '',
    message = 'the worker stopped renewing its lease while it held the task'})
  if not string.match(failures or '', '^%[.+%]$') then return '[' .. loss .. ']' end
  return string.sub(failures, 1, -2) .. ',' .. loss .. ']'
end

local returned, died, cancelled = 0, 0, 0
local remembering = redis.call('EXISTS', steps) == 1
local function take_back(entry, fields, owner)
  local have = {}
  for n = 1, #fields, 2 do have[fields[n]] = fields[n + 1] end
  local id, lost = have.i or letter .. entry, (tonumber(have.l) or 0) + 1
  local priority = priority_of(letter, have.q)
  local attempt = (tonumber(have.a) or 0) + 1
  fields = changed(fields, {i = id, l = tostring(lost), f = with_loss(have.f, attempt, owner)})
  if remembering then
    fields = memo_claimed(fields, id)
    have.c = field(fields, 'c')
  end
  if redis.call('HEXISTS', cancels, id) == 1 then
    cancelled = cancelled + 1
    end_task(id, 'x', stamp, have.c)
  elseif lost >= max_lost or #fields > 1000 then
    -- streamq writes no task with so many fields, and Lua could not append it.
    local reason = #fields > 1000 and 'undecodable' or 'lost'
    buried(id, {reason, priority, stamp, fields, reason})
    died = died + 1
    end_task(id, 'd', stamp, have.c)
  else
    local target, mark = stream, letter
    if lost >= may_lose - 1 then
      target, mark = suspect, 's'
      fields = changed(fields, {q = priority})
    end
    fields = lane_moved(fields, letter .. entry, mark)
    redis.call('HSET', index, id, mark .. redis.call('XADD', target, '*', unpack(fields)))
    ring(target)
    returned = returned + 1
  end
end

-- The ids of moved tasks by place: for a deleted entry only the index has the id. Of a large index only a part
-- is read; a task that is not found there is named by its place.
local function moved_tasks(deleted)
  local names, cursor_, looks = {}, '0', 0
  repeat
    local found = redis.call('HSCAN', index, cursor_, 'COUNT', 500)
    for n = 1, #found[2], 2 do
      if deleted[found[2][n + 1]] then names[found[2][n + 1]] = found[2][n] end
    end
    cursor_, looks = found[1], looks + 1
  until cursor_ == '0' or looks == 20
  return names
end

local function write_off(deleted)
  if not next(deleted) then return end
  local names = moved_tasks(deleted)
  for place, owner in pairs(deleted) do
    local id, priority = names[place] or place, letter == 's' and 'n' or letter
    buried(id, vanished(id, priority, stamp, owner))
    end_task(id, 'd')
    unique_lost(id)
    memo_drop(id)
    flow_lost(id)
    lane_ghost()
  end
end

local pending = redis.call('XPENDING', stream, group, cursor, '+', limit * 10)
local entries, deleted, held, ghosts = {}, {}, 0, 0
local next_ = #pending == limit * 10 and '(' .. pending[#pending][1] or '0-0'
for n, row in ipairs(pending) do
  if row[3] >= lease and row[3] >= promised(row[2]) then
    if #entries == limit then
      next_ = '(' .. pending[n - 1][1]
      break
    end
    local claimed = redis.call('XAUTOCLAIM', stream, group, row[2], lease, row[1], 'COUNT', 1)[2][1]
    if claimed then
      take_back(row[1], claimed[2], row[2])
      held = held + 1
    else
      deleted[letter .. row[1]] = row[2]
      ghosts = ghosts + 1
    end
    entries[#entries + 1] = row[1]
  end
end
write_off(deleted)
if #entries > 0 then
  redis.call('XACK', stream, group, unpack(entries))
  redis.call('XDEL', stream, unpack(entries))
  local counts = {reclaimed = held, started = held, dead = died + ghosts, cancelled = cancelled}
  for name, value in pairs(counts) do
    if value > 0 then redis.call('HINCRBY', counters, name, value) end
  end
end
gate_close()
return {next_, now, returned, died + ghosts, cancelled, unread}
