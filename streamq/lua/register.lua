#!lua flags=allow-oom
-- register: register a task type with the policy that enqueue and the daemon need.
--
-- The policy is never deleted in between: while its slot migrates to another node, it could not be recreated.
-- If the rules of its lanes changed, all lanes with parked tasks are looked at again (`sweep`). A task that waits
-- without a lane has no order, so a type with tasks cannot become ordered. `rules` keeps the rules of lanes and of unique
-- keys where a release that does not know them cannot take them away with its registration.
-- Such rules come into force when every process that serves the type can obey them. `lacking` names the features that a
-- living one lacks, each in commas; `?` if the caller has not asked the processes yet. Rules that need such a feature
-- are held: `rules` keeps them, and until they are in force new tasks are accepted without them. Rules that are in force
-- may change, and stay so whatever starts later. The order of lanes is never held: a task out of its order is worse than
-- one that an older worker hands back.
-- A new type is sampled once, with no counts: whenever a daemon first runs, what came since then is growth.
-- USES clock lane_policy rules_kept rules_put streams
-- KEYS types policy counters sampled schedule lanes turns
-- ARGV task_type handler wake lacking options...
-- Returns the handler that was registered before, or '', `!<tasks>` if that many tasks keep it from being ordered, or `?`
-- if nothing was written, because the caller is to ask the processes
local before, known = redis.call('HMGET', policy, 'handler', 'unique'), lane_policy()
local kept = rules_kept(redis.pcall('GET', rules))
local told, held = {}, {}
for n = first_arg, #ARGV, 2 do told[ARGV[n]] = ARGV[n + 1] end

local function ordered(gate) return string.match(gate or '', '^[^;]*;[^;]*;[^;]*;[^;]*;([^;]*)') == '1' end
local function fair(gate) return string.match(gate or '', '^[^;]*;[^;]*;[^;]*;([^;]*)') == '1' end

if ordered(told.gate) and not known.lane then
  local waiting = redis.call('ZCARD', schedule) + redis.call('ZCARD', lanes)
  for _, stream in pairs(streams) do waiting = waiting + redis.call('XLEN', stream) end
  if waiting > 0 then return '!' .. waiting end
end

local new_gate = told.gate and not known.gate and not ordered(told.gate)
local new_unique = told.unique and not before[2] and not kept.unique
if lacking == '?' and (new_gate or new_unique) then return '?' end
if new_gate and string.find(lacking, ',lanes,', 1, true) then
  held.gate, held.lane, told.gate, told.lane = told.gate, told.lane, nil, nil
end
if new_unique and string.find(lacking, ',unique,', 1, true) then
  held.unique, told.unique, told.rich = told.unique, nil, nil
end
rules_put({gate = told.gate, lane = told.lane, unique = told.unique, held = held})

if redis.call('SADD', types, task_type) == 1 and redis.call('EXISTS', counters, sampled) == 0 then
  -- A user with the rights of an older release may not write it: that costs a figure, and no registration.
  redis.pcall('HSET', sampled, 'at', string.format('%.0f', (clock())))
end
local stays = {handler = true, sweep = true, recount = true, counting = told.gate ~= nil, window = told.gate ~= nil}
redis.call('HSET', policy, 'handler', handler)
for name, value in pairs(told) do
  redis.call('HSET', policy, name, value)
  stays[name] = true
end
for _, name in ipairs(redis.call('HKEYS', policy)) do
  if not stays[name] then redis.call('HDEL', policy, name) end
end
if known.lost and told.gate then redis.call('HSET', policy, 'recount', '1') end
if told.gate ~= known.gate or known.lost then
  -- What a place in `turns` is worth means something else then.
  if fair(told.gate) ~= fair(known.gate) then redis.call('DEL', turns) end
  if redis.call('EXISTS', lanes) == 1 then redis.call('HSET', policy, 'sweep', '') end
  redis.call('PUBLISH', wake, task_type)
end
return before[1] or ''
