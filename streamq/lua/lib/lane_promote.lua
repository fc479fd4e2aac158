-- lane_promote(letter, fields, id): let a scheduled task that is due ask its lane; return false if it has no lane.
-- lane_admit(): admit the tasks that may run by now, and update the next lanes if the rules have changed.
-- lane_next(due): return when the promoter is needed next: `due`, or the moment that a lane waits for.
-- USES lane_due lane_gate lane_row level
-- KEYS policy ripe turns lanes index
local SWEPT = 50
local function lane_promote(letter, fields, id)
  return lane_due(letter, fields, id, redis.call('HGET', index, id) or id) ~= nil
end

local function lane_admit()
  level_lanes(lanes, policy, 100)
  local cursor = redis.call('HGET', policy, 'sweep')
  if cursor then
    cursor = lane_gate().sweep(cursor, SWEPT)
    if cursor then redis.call('HSET', policy, 'sweep', cursor) else redis.call('HDEL', policy, 'sweep') end
  end
  lane_gate()
  gate_close()
end

local function lane_next(due)
  if redis.call('HEXISTS', policy, 'sweep') == 1 then return '0' end
  local head = redis.call('ZRANGE', ripe, 0, 0, 'WITHSCORES')
  if head[2] and (not due or tonumber(head[2]) < tonumber(due)) then due = head[2] end
  -- A task without a claim takes room of the type, and its end admits nobody: so come back soon while lanes wait.
  local soon = redis.call('EXISTS', turns) == 1 and clock() + 1000
  if soon and (not due or soon < tonumber(due)) then due = string.format('%.0f', soon) end
  return due
end
