#!lua
-- flow_start: store a flow of one part, start it, and let those who run first become tasks, if they are of this type and page.
--
-- As `flow_build`, `flow_commit` and `flow_step` one after the other. Twice is nothing.
-- USES clock flow_parts flow_launch flow_stepped
-- KEYS flow flow_states flow_items flows flow_names inbox closed types dead letters groups counters index schedule expiring gone high normal low
-- ARGV flow_id task_type map first wake page key gone_flow nodes life_ms look_ms at_first fields parts...
-- Returns {'started', what `flow_step` returns...}, {'before', the flow that has the key}, or {'closed'} if the shard was
-- retired
local state = redis.call('HGET', flow, 'state')
local why, holder = flow_hindered(state)
if why and why ~= 'started' then return {why, holder} end
if not why then
  redis.call('SADD', types, task_type)  -- first, as in `flow_stepped`
  flow_parts(first_arg, tonumber(fields))
  redis.call('PEXPIRE', flow_items, life_ms)
  flow_launch()
end
if not flow_open() then return {'lost'} end
return {'started', unpack(flow_stepped(#ARGV + 1))}
