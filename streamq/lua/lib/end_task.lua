-- end_task(id, how, stamp, claims, kept): take away what goes with a task when it ends (c completed, x cancelled,
-- e expired, d dead): its row in the index, its cancel request, its row among those that expire, what it claims;
-- who waits for it is told. That it was cancelled or expired is remembered, and that it completed
-- where somebody waits and no result is `kept`. What it did beside, and the counters, are the caller's.
--
-- `claims` is what the task's field `c` says that it holds until it ends, packed as {kind, what, ...}; nil of
-- nearly every task. `release` has a function a kind: (what, id, how). One that this release does not know
-- stays held.
-- USES clock
-- KEYS index cancels waiters expiring gone
-- ARGV done
local release = {}

local function give_back(claims, id, how)
  local good, held = pcall(cmsgpack.unpack, claims)
  for n = 1, good and type(held) == 'table' and #held or 0, 2 do
    if release[held[n]] then release[held[n]](held[n + 1], id, how) end
  end
end

-- Who knows that there are no rows of a kind says so: a command less for each task.
local cancelling, expires, waiting = true, true, true
local function end_task(id, how, stamp, claims, kept)
  redis.call('HDEL', index, id)
  if cancelling then redis.call('HDEL', cancels, id) end
  if expires then redis.call('ZREM', expiring, id) end
  if claims then give_back(claims, id, how) end
  local awaited = waiting and redis.call('ZREM', waiters, id) == 1
  if how == 'x' or how == 'e' or (how == 'c' and awaited and not kept) then
    redis.call('ZADD', gone, stamp or string.format('%.0f', (clock())), how .. id)
  end
  if awaited then redis.call('PUBLISH', done .. id, how) end
end
