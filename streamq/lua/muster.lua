#!lua flags=allow-oom
-- muster: ring the doorbell for streams that have ready tasks and did not ring.
--
-- The doorbell is for workers that serve many types: naming each of their streams in every read would cost
-- more than the tasks. While `doorbell` exists, every script that appends a task adds its stream to `ready`
-- (score: since when it waits, or was served) and, if it was not there, to `bell`: one waiting worker takes
-- it from there and fetches. `fetch` removes emptied streams from both. What does not ring (processes of an
-- older release, entries made by hand) is found here.
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
redis.call('ZCARD', ready)  -- before the first write: a wrong type of value is an error
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
