-- ring(stream): note that a stream has ready tasks, and wake a worker, while workers wait for the doorbell
-- (see `muster`). It fails for nothing: what did not ring is found by `muster`.
-- USES clock
-- KEYS doorbell ready bell
local function ring(stream)
  if redis.call('EXISTS', doorbell) == 0 then return end
  local since = string.format('%.0f', (clock()))
  if redis.pcall('ZADD', ready, 'NX', since, stream) == 1 then redis.pcall('ZADD', bell, since, stream) end
end
