#!lua flags=allow-oom
-- signal: give a task a value that its handler waits for now, or will.
--
-- A task that is suspended for it becomes ready in this step. `key`: the same if the caller sends the call once more, which
-- then changes nothing. A signal that nobody has taken is kept for `life_ms`.
-- USES clock field lane_gate lane_row lane_tell mail_put memo_put note ready_now row_fields scheduled task_lives waits_for
-- KEYS mail steps
-- ARGV group id signal value key most_unread life_ms most most_bytes action about task_type wake
-- Returns delivered, stored, dead, unknown, or full
if redis.call('ZSCORE', dead, id) then return 'dead' end
if not task_lives(id) then return 'unknown' end

local before = redis.call('HGET', mail, '') or ''
for n = 1, #before, 16 do
  if string.sub(before, n, n + 15) == key then return 'stored' end
end

-- One that is held in an ordered lane stays in its turn, with no time to wait for.
local function resume(memo)
  local place = redis.call('HGET', index, id) or id
  local due, number = scheduled(place)
  local row = due and row_of(due, number)
  local fields = row and row_fields(row)
  if fields and field(fields, 's') == memo then ready_now(row, fields, id, place) end
  local parked = string.sub(place, 1, 1) == 'k' and row_at(place)
  local packed = parked and row_packed(parked)
  if packed and field(packed, 's') == memo then
    lane_gate().rewrite(parked, parked.letter, parked.cost, packed, nil)
  end
end

local memo = waits_for(id, signal)
if memo then
  if memo_put(id, memo, '+' .. value) then return 'full' end
  resume(memo)
elseif not mail_put(signal, value, tonumber(most_unread)) then
  return 'full'
end
redis.call('HSET', mail, '', string.sub(before .. key, -16 * 32))
redis.call('PEXPIRE', mail, mail_empty() and 3600000 or life_ms)
note(1)
gate_close()
return memo and 'delivered' or 'stored'
