-- lane_ghost(): have the slots of a type with lanes counted anew. Something other than streamq deleted an entry, and its
-- claim on a slot with it, or an entry moved past a recount.
-- USES lane_policy
-- KEYS policy
local function lane_ghost()
  if lane_policy().gate then redis.call('HSET', policy, 'recount', '1') end
end
