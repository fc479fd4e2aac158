#!lua flags=allow-oom
-- flow_advance: take what has ended of a flow's nodes out of the inbox, and find who may run now.
--
-- Who may run is noted (q) and is released by `flow_release`; until that is done for all, the row `<flow> look` stays in the
-- inbox.
-- USES flow_take
-- KEYS flow flow_states flows inbox
-- ARGV flow_id rows...
-- Returns {state ('' if there is no such flow; ! behind it if a task waits for this end), whether there is more to look at, {number, type, map or '', 'n'/'m'/'g'/'x'}...};
-- a row is <number> <how>. m: a map whose list is still to be cut; g: a node whose children are; x: one whose task is to be
-- cancelled
if not flow_open() then return flow_unknown(first_arg) end
flow_take(first_arg)
flow_close()
local found = {flow_reply(), f.todo ~= '' and 1 or 0}
flow_ready(function(n, task_type, of, cut) found[#found + 1] = {n, task_type, of or '', cut or 'n'} end)
for n in string.gmatch(f.losing or '', '%d+') do
  if #found < LOOKS + 102 then found[#found + 1] = {tonumber(n), '', '', 'x'} end
end
return found
