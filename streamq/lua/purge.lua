#!lua flags=allow-oom
-- purge: delete dead letters for good, oldest first or by id.
-- USES blob_drop lane_entered letter_in memo_drop note selection unlist
-- KEYS dead letters groups counters
-- ARGV limit since_ms until_ms fingerprint action about task_type wake ids...
-- Returns {purged, dead letters of this kind that are left}
local purged = 0
for _, id in ipairs(selection(0)) do
  local letter = letter_in(redis.call('HGET', letters, id))
  purged = purged + unlist(id, letter)
  memo_drop(id)
  blob_drop(letter)
  lane_opened(id, letter)
end
if purged > 0 then redis.call('HINCRBY', counters, 'purged', purged) end
note(purged)
gate_close()
return {purged, #ARGV < first_arg and left_over() or 0}
