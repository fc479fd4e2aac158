#!lua flags=allow-oom
-- repair_scores: set the score of rows of `lanes` and `groups` to 0, which another program has changed. When all are,
-- look at the next lanes: those that such a row hid may go, and have neither their turn nor a timer.
-- USES lane_promote level
-- KEYS lanes groups policy counters
-- ARGV limit
-- Returns {how many rows were changed, 1 if there is more to do}
local limit = tonumber(limit)
local changed = level_lanes(lanes, policy, limit) + level(groups, limit)
if changed > 0 then
  redis.call('HINCRBY', counters, 'repaired', changed)
else
  lane_admit()
end
return {changed, (changed > 0 or redis.call('HEXISTS', policy, 'sweep') == 1) and 1 or 0}
