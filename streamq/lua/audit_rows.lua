#!lua flags=no-writes,allow-stale
-- audit_rows: check rows of the index, the cancel requests, the dead list, the locks or the successors of their
-- holders: each must have its task. A lock is named by its digest in hex.
-- USES scheduled in_stream in_time lane_row streams field letter_in lock_held unhexed waits
-- KEYS schedule index cancels dead letters unique after
-- ARGV group of bytes ids...
-- Returns {ids checked, {problem, id...}}; `of` is index, cancels, dead, unique or after; it stops after
-- reading `bytes`, and when `in_time` says so
local bytes, problems, read = tonumber(bytes), {}, 0

local function seen(row) read = read + #row + 300 end

local function fields_at(place)
  if string.sub(place, 1, 1) == 'k' then return parked_at(place) end
  local due, number = scheduled(place)
  if not due then return in_stream(place) end
  local row = row_of(due, number, seen)
  return row and row_fields(row)
end

local function holds(place, id)
  local fields = fields_at(place)
  if not fields then return false end
  for n = 2, #fields, 2 do read = read + #fields[n] end
  return (field(fields, 'i') or place) == id
end

-- Return whether the place is a delivery whose entry something else deleted: it is still pending.
local function ghost(place)
  local stream, entry = streams[string.sub(place, 1, 1)], string.sub(place, 2)
  if not stream or not string.match(entry, '^%d+%-%d+$') then return false end
  local held = redis.pcall('XPENDING', stream, group, entry, entry, 1)
  return not held.err and #held == 1 and #redis.call('XRANGE', stream, entry, entry) == 0
end

-- A lock must be held by a task that claims it; a successor must wait.
local function lock_fault(key)
  local what = unhexed(key)
  local id = what and redis.call('HGET', of == 'unique' and unique or after, what)
  if not id then return nil end
  read = read + 2000
  if of == 'unique' then return not lock_held(what, group) and 'orphaned_lock' end
  local due, number = scheduled(redis.call('HGET', index, id) or id)
  local waiting = waits(due) and row_of(due, number, seen)
  return not (waiting and redis.call('HEXISTS', unique, what) == 1) and 'orphaned_lock'
end

local function fault(id)
  if of == 'unique' or of == 'after' then return lock_fault(id) end
  if of == 'dead' then
    if not redis.call('ZSCORE', dead, id) then return nil end
    local packed = redis.call('HGET', letters, id)
    if not packed then return 'missing_letter' end
    read = read + #packed
    return not letter_in(packed) and 'unreadable_letter'
  end
  local at = redis.call('HGET', index, id)
  if of == 'cancels' then
    if redis.call('HEXISTS', cancels, id) == 0 or holds(at or id, id) or ghost(at or id) then return nil end
    return 'orphaned_cancel'
  end
  if not at or holds(at, id) then return nil end
  return ghost(at) and 'deleted_while_pending' or 'orphaned_index_row'
end

local looked = 0
for n = first_arg, #ARGV do
  if read >= bytes or not in_time(1) and looked > 0 then break end
  looked = looked + 1
  local name = fault(ARGV[n])
  if name then
    problems[#problems + 1] = name
    problems[#problems + 1] = ARGV[n]
  end
end
return {looked, problems}
