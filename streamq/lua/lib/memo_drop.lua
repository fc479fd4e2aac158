-- memo_drop(id): delete the memos of a task's steps.
-- USES memo_names
-- KEYS steps
local function memo_drop(id)
  local head = redis.call('HGET', steps, id)
  if not head then return end
  local gone = {id}
  for name in memo_names(head) do gone[#gone + 1] = id .. '\0' .. name end
  for n = 1, #gone, 1000 do redis.call('HDEL', steps, unpack(gone, n, math.min(n + 999, #gone))) end
end
