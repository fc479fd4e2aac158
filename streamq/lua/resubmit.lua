#!lua flags=allow-oom
-- resubmit: replace a dead letter by a new task with another payload.
--
-- The letter is removed, and the new task names it in field `o`. The books count the letter as purged and the
-- new task as accepted. A repeated call (the same `action`) gets the first call's answer.
-- USES blob_drop lane_entered letter_in memo_drop note ring unlist
-- KEYS dead letters groups counters high normal low
-- ARGV id payload action about task_type wake
-- Returns the new local id, or '' if there is no such dead letter
local streams = {h = high, n = normal, l = low}
local letter = letter_in(redis.call('HGET', letters, id))
local good = letter and #letter[4] <= 1000 and #letter[4] % 2 == 0 and all_text(letter[4])
-- A letter that streamq did not write has no successor: it stays.
if not good then return redis.call('HGET', actions, action .. '=') or '' end
local kept = {m = true, V = true}  -- the options of the call, and the version of the arguments
local fields = {'p', payload, 'o', id}
for n = 1, #letter[4], 2 do
  if kept[letter[4][n]] then
    fields[#fields + 1] = letter[4][n]
    fields[#fields + 1] = letter[4][n + 1]
  end
end
local mark = streams[letter[2]] and letter[2] or 'n'
fields = lane_kept(fields, letter[4])
unlist(id, letter)
memo_drop(id)
blob_drop(letter)
lane_opened(id, letter)
local new = lane_entered(mark, fields)
if not new then
  new = mark .. redis.call('XADD', streams[mark], '*', unpack(fields))
  ring(streams[mark])
end
redis.call('HINCRBY', counters, 'purged', 1)
redis.call('HINCRBY', counters, 'accepted', 1)
note(1)
gate_close()
redis.call('HSET', actions, action .. '=', new)
return new
