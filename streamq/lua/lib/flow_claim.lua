-- flow_claim(what, id, how): a task that is a node of a flow ends: a row in `inbox`, which `flow_advance` takes out.
-- flow_lost(id): the same of a task whose entry is gone, and with it what it claimed: its id says which node it is.
-- flow_grew: whether the task that ends as completed has children now: its flow makes them.
-- A row is the flow's id, the node's number and how it ended, by the time; see also `flow_states`.
-- USES clock end_task
-- KEYS inbox
local flow_stamp
local function flow_told(what, how)
  flow_stamp = flow_stamp or string.format('%.0f', (clock()))
  redis.call('ZADD', inbox, flow_stamp, what .. ' ' .. how)
end

local flow_grew = false
local function flow_claim(what, _, how)
  if how == 'c' and flow_grew then how = 'g' end
  if type(what) == 'string' and string.find(what, '^%d+%-%d+ %d+$') and #what < 60 then flow_told(what, how) end
end
release.f = flow_claim

local function flow_lost(id)
  local ms, random, node = string.match(id, '^%a(%d+)%-10(%d%d%d%d%d%d%d%d%d%d%d%d)(%d%d%d%d%d%d)$')
  if node then flow_told(string.format('%s-%s %d', ms, random, tonumber(node)), 'd') end
end
