#!lua flags=allow-oom
-- enforce: put the rules that a registration has held into force (see register), and put those back into the policy that
-- a registration by an older release has removed from it.
-- USES lane_policy rules_kept rules_put
-- KEYS policy rules lanes
-- ARGV task_type wake lacking
-- Returns how many rules came into force
local kept = rules_kept(redis.pcall('GET', rules))
local held, begun = kept.held or {}, 0
if held.gate and not string.find(lacking, ',lanes,', 1, true) then
  kept.gate, kept.lane, held.gate, held.lane, begun = held.gate, held.lane, nil, nil, begun + 1
  redis.call('HSET', policy, 'gate', kept.gate)
  if kept.lane then redis.call('HSET', policy, 'lane', kept.lane) end
  if redis.call('EXISTS', lanes) == 1 then redis.call('HSET', policy, 'sweep', '') end
end
if held.unique and not string.find(lacking, ',unique,', 1, true) then
  kept.unique, held.unique, begun = held.unique, nil, begun + 1
end
if kept.unique then redis.call('HSET', policy, 'rich', '1', 'unique', kept.unique) end
-- Without a limit, a release that knows these rules and not the key `rules` would not ask for them.
if (kept.gate or kept.unique) and redis.call('HEXISTS', policy, 'max_backlog') == 0 then
  redis.call('HSET', policy, 'max_backlog', '1000000000000000')
end
if begun > 0 then
  rules_put(kept)
  redis.call('PUBLISH', wake, task_type)
end
return begun
