-- flow_launch(): the flow runs from now on. Returns the time.
-- flow_hindered(state): why a flow in this state is not started now: 'started' (it was, by a call whose reply was lost),
-- 'before' and the flow that has its key, or 'closed' (the shard was retired); nil if nothing hinders it. Of flows with one key
-- there is one. `gone_flow` had the key and is no longer stored, as the caller has seen.
-- `at_first` are the states of its first nodes, where they do not all wait: undo tasks are skipped as long as nothing is undone.
-- USES clock
-- KEYS flow flow_states flows flow_names closed
-- ARGV flow_id key gone_flow nodes life_ms look_ms at_first
local function flow_hindered(state)
  local holder = key ~= '' and redis.call('HGET', flow_names, 'k' .. key)
  if state and state ~= 'building' then return 'started' end
  if holder and holder ~= flow_id and holder ~= gone_flow then return 'before', holder end
  if redis.call('EXISTS', closed) == 1 then return 'closed' end
  return nil
end

local function flow_launch()
  local now = clock()
  local stamp = string.format('%.0f', now)
  local _, skipped = string.gsub(at_first, 's', '')
  redis.call('SET', flow_states, at_first .. string.rep('w', tonumber(nodes) - #at_first), 'PX', life_ms)
  redis.call(
    'HSET', flow, 'state', 'running', 'started', stamp, 'nodes', nodes, 'waiting', nodes - skipped, 'released', 0,
    'done', 0, 'skipped', skipped, 'failed', 0, 'ready', 0)
  redis.call('PEXPIRE', flow, life_ms)
  redis.call('ZADD', flows, string.format('%.0f', now + tonumber(look_ms)), flow_id)
  if key ~= '' then redis.call('HSET', flow_names, 'k' .. key, flow_id, 'i' .. flow_id, key) end
  return stamp
end
