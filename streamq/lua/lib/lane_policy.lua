-- lane_policy(): what the policy says of a type's lanes: {gate, lane, window, counting}, nil where it says
-- nothing. `lost`: gate
-- and lane are from `rules`, as a registration by an older release took them out of the policy.
-- USES rules_kept
-- KEYS policy rules
local function lane_policy()
  local stored = redis.pcall('HMGET', policy, 'gate', 'lane', 'window', 'counting')
  if stored.err then return {} end
  local found = {gate = stored[1] or nil, lane = stored[2] or nil}
  if not found.gate then
    local text = redis.pcall('GET', rules)
    found = rules_kept(type(text) == 'string' and text)
    found.lost = found.gate ~= nil
  end
  found.window, found.counting = stored[3], stored[4]
  return found
end
