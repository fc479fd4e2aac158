-- ring(stream): record that a stream has ready tasks, and wake a worker, if workers use the doorbell (see
-- `muster`). It never fails the caller: `muster` finds what did not ring.
-- USES clock
-- KEYS doorbell ready bell
local function ring(stream)
  if redis.call('EXISTS', doorbell) == 0 then return end
  local since = string.format('%.0f', (clock()))
  if redis.pcall('ZADD', ready, 'NX', since, stream) == 1 then redis.pcall('ZADD', bell, since, stream) end
end
