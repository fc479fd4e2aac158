#!lua
-- flow_commit: start a flow whose parts are all stored. Of flows with one key there is one.
--
-- `letters` are the states of its first nodes, where they do not all wait: undo tasks are skipped as long as nothing is undone.
-- `gone` is a flow that had the key and is no longer stored, as the caller has seen.
-- USES clock
-- KEYS flow flow_states flows flow_names inbox closed flow_pages...
-- ARGV flow_id key gone nodes life_ms look_ms letters
-- Returns {'started'}, {'before', the flow that has the key}, {'lost'} if the parts have expired, or {'closed'} if the
-- shard was retired
local state = redis.call('HGET', flow, 'state')
local holder = key ~= '' and redis.call('HGET', flow_names, 'k' .. key)
if state and state ~= 'building' then return {'started'} end  -- the reply to the first call was lost
if holder and holder ~= flow_id and holder ~= gone then return {'before', holder} end
if not state then return {'lost'} end
if redis.call('EXISTS', closed) == 1 then return {'closed'} end
for n = first_key, #KEYS do redis.call('PEXPIRE', KEYS[n], life_ms) end
local now = clock()
local stamp = string.format('%.0f', now)
local _, skipped = string.gsub(letters, 's', '')
redis.call('SET', flow_states, letters .. string.rep('w', tonumber(nodes) - #letters), 'PX', life_ms)
redis.call(
  'HSET', flow, 'state', 'running', 'started', stamp, 'nodes', nodes, 'waiting', nodes - skipped, 'released', 0,
  'done', 0, 'skipped', skipped, 'failed', 0, 'ready', 0)
redis.call('PEXPIRE', flow, life_ms)
redis.call('ZADD', flows, string.format('%.0f', now + tonumber(look_ms)), flow_id)
if key ~= '' then redis.call('HSET', flow_names, 'k' .. key, flow_id, 'i' .. flow_id, key) end
redis.call('ZADD', inbox, stamp, flow_id .. ' look')
return {'started'}
