#!lua
-- flow_commit: start a flow whose parts are all stored. Of flows with one key there is one.
-- USES clock flow_launch
-- KEYS flow flow_states flows flow_names inbox closed flow_pages...
-- ARGV flow_id key gone_flow nodes life_ms look_ms at_first
-- Returns {'started'}, {'before', the flow that has the key}, {'lost'} if the parts have expired, or {'closed'} if the
-- shard was retired
local state = redis.call('HGET', flow, 'state')
local why, holder = flow_hindered(state)
if why then return {why, holder} end
if not state then return {'lost'} end
for n = first_key, #KEYS do redis.call('PEXPIRE', KEYS[n], life_ms) end
redis.call('ZADD', inbox, flow_launch(), flow_id .. ' look')
return {'started'}
