#!lua flags=allow-oom
-- recount: count anew what each lane holds, and admit who may go by that.
--
-- Needed only where an entry was deleted behind our back, or settled by what does not know of lanes. One script,
-- so it is exact; of a type with more than `most` entries and rows nothing is counted.
-- USES lane_count lane_gate lane_tell
-- KEYS policy
-- ARGV most task_type wake
-- Returns {{lane, held as written, held as counted}...} of lanes where these differed; or {'large', entries}
local held, size = lane_count(tonumber(most))
if not held then return {'large', size} end
local g = lane_gate()
local wrong = lane_differences(held, function(lane) return g.record(lane).held end)
for _, row in ipairs(wrong) do
  g.record(row[1]).held = row[3]
  g.touch(row[1])
end
redis.call('HDEL', policy, 'recount')
if #wrong > 0 then redis.call('HINCRBY', counters, 'repaired', #wrong) end
gate_close()
return wrong
