#!lua flags=allow-oom
-- muster: ring the doorbell for streams that have ready tasks of which nobody told.
--
-- The doorbell is for workers that serve many types: to name each of their streams in every read would cost
-- more than the tasks. While `doorbell` is there, whatever appends a task puts its stream into `ready` (score:
-- since when it waits, or was served) and, where it was not there, into `bell`: one worker that waits takes it
-- from there and looks. `fetch` takes out of both what it has emptied. What does not ring (processes of
-- an older release, entries made by hand) is found here.
-- USES clock group_of
-- KEYS ready bell streams...
-- ARGV group
-- Returns how many were found
local since = string.format('%.0f', (clock()))

local function waits(stream, length)
  local about = group_of(stream)
  return not about or length > about.pending
end

local found = 0
redis.call('ZCARD', ready)  -- before the first write: another kind of value is an error
redis.call('ZCARD', bell)
for n = first_key, #KEYS do
  local length = redis.pcall('XLEN', KEYS[n])
  if type(length) == 'number' and length > 0 and not redis.call('ZSCORE', ready, KEYS[n]) then
    if waits(KEYS[n], length) then
      redis.call('ZADD', ready, since, KEYS[n])
      redis.call('ZADD', bell, since, KEYS[n])
      found = found + 1
    end
  end
end
return found
