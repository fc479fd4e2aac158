-- lane_ghost(): an entry was deleted behind our back, and with it what it said of its lane: of a type with lanes what
-- they hold is to be counted anew.
-- KEYS policy
local function lane_ghost()
  local gated = redis.pcall('HEXISTS', policy, 'gate')
  if gated == 1 then redis.call('HSET', policy, 'recount', '1') end
end
