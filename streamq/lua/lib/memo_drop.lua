-- memo_drop(id): delete the memos of a task's steps. A flow that ran for the task is cancelled if it still runs: nobody waits for
-- it any more. Its name is in that of its memo (`flow`, its id, a name), so a row of the inbox can tell it.
-- USES clock memo_names
-- KEYS steps inbox
local function memo_drop(id)
  local head = redis.call('HGET', steps, id)
  if not head then return end
  local gone = {id}
  for name in memo_names(head) do
    gone[#gone + 1] = id .. '\0' .. name
    local child = string.match(name, '^flow (%d+%-%d+) ')
    if child then redis.pcall('ZADD', inbox, string.format('%.0f', (clock())), child .. ' 0 p') end
  end
  for n = 1, #gone, 1000 do redis.call('HDEL', steps, unpack(gone, n, math.min(n + 999, #gone))) end
end
