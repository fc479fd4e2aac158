-- unlocked(fields, id, place): the fault of a task that claims a lock which no task holds (missing_lock), or that waits
-- for the end of a task without being its successor (stranded_successor); nil if there is none.
-- USES field unique_claim waits
-- KEYS unique after
local function unlocked(fields, id, place)
  local packed = field(fields, 'c')
  if not packed then return nil end
  local what, until_started = unique_claim(packed)
  if not what then return nil end
  if waits(string.match(place or '', '^d(%d+)-')) then
    return redis.call('HGET', after, what) ~= id and 'stranded_successor' or nil
  end
  return not until_started and redis.call('HEXISTS', unique, what) == 0 and 'missing_lock' or nil
end
