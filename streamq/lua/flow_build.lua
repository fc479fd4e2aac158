#!lua
-- flow_build: store a part of a flow. Nothing of it runs before `flow_commit`, and without that it expires.
--
-- With `of_state` the flow must be in that state: the children of a map come into one that runs.
-- USES flow_parts
-- KEYS flow flow_items
-- ARGV of_state life_ms fields parts...
-- Returns 1, or 0 if the flow is not in that state. `fields`: how many pairs of the record come first
local state = redis.call('HGET', flow, 'state')
if (state or 'building') ~= of_state then return 0 end
if not state then redis.call('HSET', flow, 'state', 'building') end
flow_parts(first_arg, tonumber(fields))
if state ~= 'running' then redis.call('PEXPIRE', flow, life_ms) end
redis.call('PEXPIRE', flow_items, life_ms)
return 1
