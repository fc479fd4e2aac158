-- ring(doorbell, ready, bell, stream): note that a stream has ready tasks, and wake a worker, while workers
-- wait for the doorbell (see `muster`). It fails for nothing: what did not ring is found by `muster`.
local function ring(doorbell, ready, bell, stream)
  if redis.call('EXISTS', doorbell) == 0 then return end
  local time = redis.call('TIME')
  local since = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
  if redis.pcall('ZADD', ready, 'NX', since, stream) == 1 then redis.pcall('ZADD', bell, since, stream) end
end
