-- lane_policy(): return what the policy says about a type's lanes: {gate, lane, window, counting}, each nil if it is not
-- there. `lost` is true if gate and lane are from `rules`, because a registration by an older release removed them from
-- the policy.
-- USES rules_kept
-- KEYS policy rules
local function lane_policy()
  local stored = redis.pcall('HMGET', policy, 'gate', 'lane', 'window', 'counting')
  if stored.err then return {} end
  local found = {gate = stored[1] or nil, lane = stored[2] or nil}
  if not found.gate then
    found = rules_kept(redis.pcall('GET', rules))
    found.lost = found.gate ~= nil
  end
  found.window, found.counting = stored[3], stored[4]
  return found
end
