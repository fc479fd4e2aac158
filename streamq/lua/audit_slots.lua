#!lua flags=no-writes,allow-stale
-- audit_slots: hold what each lane is written to hold against the entries that are there.
-- USES lane_count lane_rules
-- KEYS slots
-- ARGV most
-- Returns {{lane, held as written, held as counted}...} of lanes where these differ; or {'large', entries}
local held, size = lane_count(tonumber(most))
if not held then return {'large', size} end
local book = lane_rules()
return lane_differences(held, function(lane) return book.record(lane).held end)
