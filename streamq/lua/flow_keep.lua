#!lua flags=allow-oom
-- flow_keep: when a flow is to be looked after next; one whose record is gone is forgotten, with its key.
-- KEYS flow flows flow_names
-- ARGV flow_id again_ms state
-- Returns 1 if it is there and in that state
local now = redis.call('HGET', flow, 'state')
if not now then
  redis.call('ZREM', flows, flow_id)
  local key = redis.call('HGET', flow_names, 'i' .. flow_id)
  if key and redis.call('HGET', flow_names, 'k' .. key) == flow_id then redis.call('HDEL', flow_names, 'k' .. key) end
  redis.call('HDEL', flow_names, 'i' .. flow_id)
  return 0
end
if now ~= state then return 0 end
redis.call('ZADD', flows, again_ms, flow_id)
return 1
