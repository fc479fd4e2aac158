#!lua flags=allow-oom
-- repair_scores: set the score of rows of `lanes` and `groups` to 0, which another program has changed.
-- USES level
-- KEYS lanes groups policy counters
-- ARGV limit
-- Returns how many rows were changed
local limit = tonumber(limit)
local changed = level_lanes(lanes, policy, limit) + level(groups, limit)
if changed > 0 then redis.call('HINCRBY', counters, 'repaired', changed) end
return changed
