-- end_task(id, how, stamp, claims, kept): remove what belongs to a task that ends (c completed, x cancelled,
-- e expired, d dead): its row in the index, its cancel request, its row in `expiring`, and its claims; publish
-- the end to those who wait for it. The end is stored if it is cancelled or expired, and if it is completed,
-- a program waits for it and no result is `kept`. Everything else, such as the counters, is the caller's part.
--
-- `claims` is the task's field `c`: what it holds until it ends, packed as {kind, what, ...}; nil for nearly
-- every task. `release` has a function for each kind: (what, id, how). A claim of a kind that this release does
-- not know stays held.
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

-- A caller that knows that one of these keys is empty sets its flag to false: one command less for each task.
local cancelling, expires, waiting = true, true, true
local function end_task(id, how, stamp, claims, kept)
  if claims then give_back(claims, id, how) end  -- which may look where the task is
  redis.call('HDEL', index, id)
  if cancelling then redis.call('HDEL', cancels, id) end
  if expires then redis.call('ZREM', expiring, id) end
  local awaited = waiting and redis.call('ZREM', waiters, id) == 1
  if how == 'x' or how == 'e' or (how == 'c' and awaited and not kept) then
    redis.call('ZADD', gone, stamp or string.format('%.0f', (clock())), how .. id)
  end
  if awaited then redis.call('PUBLISH', done .. id, how) end
end
