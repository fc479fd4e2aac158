#!lua flags=allow-oom
-- flow_mark: cancel a flow, fail it by a node that cannot run, or let one that is stuck try its failed undo task again.
--
-- Twice is nothing.
-- USES clock flow_open note
-- KEYS flow flow_states flows inbox
-- ARGV flow_id what node action about
-- Returns the flow's state before, '' if there is none; `what` is cancel, drop (to cancel without undo), fail or retry
if not flow_open() then return '' end
local before = f.state

local function soon() redis.call('ZADD', flows, string.format('%.0f', (clock())), flow_id) end

if (what == 'cancel' or what == 'drop') and (before == 'running' or before == 'failing') then
  f.state, f.undo = 'cancelling', what == 'drop' and '0' or '1'
  flow_skip(true)
  soon()
elseif what == 'fail' and before == 'running' then
  flow_put(tonumber(node), 'd')
  flow_fail(node)
elseif what == 'retry' and before == 'stuck' then
  local failed = flow_undo_of(flow_undo_last())
  if not failed then return before end
  if FAILED[flow_at(failed)] then flow_put(failed, 's') end
  f.state, f.stuck, f.generation = 'undoing', '0', f.generation + 1
  redis.call('HDEL', flow, 'ended')
  soon()
else
  return before
end
flow_close()
note(1)
return before
