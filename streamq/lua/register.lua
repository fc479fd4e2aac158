#!lua flags=allow-oom
-- register: register a task type with the policy that enqueue and the daemon need.
--
-- The policy is never deleted in between: while its slot migrates to another node, it could not be recreated.
-- If the rules of its lanes changed, all lanes with parked tasks are looked at again (`sweep`). A task that waits
-- without a lane has no order, so a type with tasks cannot become ordered. `rules` keeps the rules where a release that
-- does not know lanes cannot take them away with its registration.
-- USES lane_policy streams
-- KEYS types policy schedule lanes turns
-- ARGV task_type handler wake options...
-- Returns the handler that was registered before, or '', or `!<tasks>` if that many tasks keep it from being ordered
local before, known = redis.call('HGET', policy, 'handler'), lane_policy()
local told = {}
for n = first_arg, #ARGV, 2 do told[ARGV[n]] = ARGV[n + 1] end

local function ordered(gate) return string.match(gate or '', '^[^;]*;[^;]*;[^;]*;[^;]*;([^;]*)') == '1' end
local function fair(gate) return string.match(gate or '', '^[^;]*;[^;]*;[^;]*;([^;]*)') == '1' end

if ordered(told.gate) and not known.lane then
  local waiting = redis.call('ZCARD', schedule) + redis.call('ZCARD', lanes)
  for _, stream in pairs(streams) do waiting = waiting + redis.call('XLEN', stream) end
  if waiting > 0 then return '!' .. waiting end
end
if told.gate then
  redis.call('SET', rules, cjson.encode({gate = told.gate, lane = told.lane}))
elseif redis.call('EXISTS', rules) == 1 then
  redis.call('DEL', rules)
end
redis.call('SADD', types, task_type)
local kept = {handler = true, sweep = true, recount = true, counting = told.gate ~= nil, window = told.gate ~= nil}
redis.call('HSET', policy, 'handler', handler)
for name, value in pairs(told) do
  redis.call('HSET', policy, name, value)
  kept[name] = true
end
for _, name in ipairs(redis.call('HKEYS', policy)) do
  if not kept[name] then redis.call('HDEL', policy, name) end
end
if known.lost and told.gate then redis.call('HSET', policy, 'recount', '1') end
if told.gate ~= known.gate or known.lost then
  -- What a place in `turns` is worth means something else then.
  if fair(told.gate) ~= fair(known.gate) then redis.call('DEL', turns) end
  if redis.call('EXISTS', lanes) == 1 then redis.call('HSET', policy, 'sweep', '') end
  redis.call('PUBLISH', wake, task_type)
end
return before or ''
