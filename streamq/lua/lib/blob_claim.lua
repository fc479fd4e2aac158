-- blob_claim(what, id, how): a task ends whose arguments are in a blob (a large text in a store outside of Redis): whoever
-- looks after the store may remove it now. A dead letter keeps its blob.
-- blob_of_result(told): the result of a task is in a blob: lifetime in ms, a space, its name.
--
-- `blobs` has the names of blobs by the ms from which each may be removed: that of a living task's is far in the future.
-- A claim (see end_task) never adds a name. Where somebody has overwritten the key, tasks end all the same: their blobs stay.
-- USES clock end_task
-- KEYS blobs
local function blob_claim(what, _, how)
  if how == 'd' or type(what) ~= 'string' then return end
  redis.pcall('ZADD', blobs, 'XX', string.format('%.0f', (clock())), what)
end
release.b = blob_claim

local function blob_of_result(told)
  local life, name = string.match(told, '^(%d+) (%S+)$')
  if life and #life < 14 then redis.pcall('ZADD', blobs, string.format('%.0f', clock() + tonumber(life)), name) end
end
