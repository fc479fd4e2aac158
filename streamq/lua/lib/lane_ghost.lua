-- lane_ghost(): an entry was deleted behind our back, and with it what it said of its lane, or moved unseen by a count
-- that is under way: of a type with lanes what they hold is to be counted anew.
-- USES lane_policy
-- KEYS policy
local function lane_ghost()
  if lane_policy().gate then redis.call('HSET', policy, 'recount', '1') end
end
