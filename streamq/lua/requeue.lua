#!lua flags=allow-oom
-- requeue: put dead letters back into their streams with fresh attempts, oldest first or by id.
--
-- Only what died until `until_ms` is taken, so that a task which dies again at once is not met twice
-- by the caller that asks for everything. The history of errors stays with the task. What cannot be a
-- task again stays: a letter without a payload (foreign, vanished, damaged). Who asks for everything passes
-- over as many as have stayed before (`skip`). A letter with a unique key takes its lock again: if another task holds
-- it the letter stays, or with `force` runs beside that task without the lock. So does one that shuts an ordered lane
-- where that task waits: it goes first there, and the two run one after the other. `fresh` 1: without the memos of its
-- steps, so that it runs from the beginning.
-- USES changed field identified lane_entered letter_in memo_drop note ring selection unique_claim unique_holder unlist
-- KEYS dead letters groups counters index high normal low
-- ARGV limit skip since_ms until_ms fingerprint group force fresh action about task_type wake ids...
-- Returns {requeued, dead letters of this kind that are left, how many of those looked at stay, {id, holder of its lock...}}
local streams = {h = high, n = normal, l = low}
local dropped = {a = false, l = false, q = false, x = false}
local function runnable(packed)
  local letter = letter_in(packed)
  local good = letter and all_text(letter[4]) and #letter[4] % 2 == 0 and #letter[4] <= 1000
  return good and field(letter[4], 'p') and letter or nil
end

local function revived(id, fields)
  local out = changed(fields, dropped)
  identified(out, id)
  return out
end

-- The digest of the lock that a letter needs, and the task that holds it.
local function lock_of(id, fields)
  local what = unique_claim(field(fields, 'c'))
  local holder = what and unique_holder(what, group)
  return what, holder and holder.id ~= id and holder.id
end

local function shuts_out(id, letter, holder)
  local found = holder and found_at(holder, group)
  local lane = found and found.parked and found.parked.lane
  return lane and lane == lane_of(field(letter[4], 'c')) and lane_gate().record(lane).halt == id
end

local function without_lock(fields)
  local good, claims = pcall(cmsgpack.unpack, field(fields, 'c'))
  local kept = {}
  for n = 1, good and #claims or 0, 2 do
    if claims[n] ~= 'u' and claims[n] ~= 'us' then
      kept[#kept + 1] = claims[n]
      kept[#kept + 1] = claims[n + 1]
    end
  end
  return changed(fields, {c = #kept > 0 and cmsgpack.pack(kept) or false})
end

local requeued, stay, held = 0, 0, {}
for _, id in ipairs(selection(skip)) do
  local packed = redis.call('HGET', letters, id)
  local letter = packed and runnable(packed)
  local what, holder
  if letter then what, holder = lock_of(id, letter[4]) end
  if holder and force ~= '1' and not shuts_out(id, letter, holder) then
    stay = stay + 1
    held[#held + 1] = id
    held[#held + 1] = holder
  elseif letter then
    if holder then letter[4] = without_lock(letter[4]) elseif what then redis.call('HSET', unique, what, id) end
    local mark = streams[letter[2]] and letter[2] or 'n'
    local fields = revived(id, letter[4])
    unlist(id, letter)
    if fresh == '1' then memo_drop(id) end
    lane_opened(id, letter)
    if not lane_entered(mark, fields, id) then
      redis.call('HSET', index, id, mark .. redis.call('XADD', streams[mark], '*', unpack(fields)))
      ring(streams[mark])
    end
    requeued = requeued + 1
  elseif packed or #ARGV < first_arg then
    stay = stay + 1
  end
end
if requeued > 0 then redis.call('HINCRBY', counters, 'requeued', requeued) end
note(requeued)
gate_close()
return {requeued, #ARGV < first_arg and left_over() or 0, stay, held}
