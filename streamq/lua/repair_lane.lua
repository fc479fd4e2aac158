#!lua flags=allow-oom
-- repair_lane: look at a lane again: whether it has its turn, and when time lets it go; open one that is halted by a dead
-- letter which is not there any more.
-- USES lane_gate lane_tell
-- KEYS letters counters
-- ARGV lane task_type wake
-- Returns 1, or 0 where it was as it should be
local function state() return tostring(redis.call('ZSCORE', turns, lane)) .. tostring(redis.call('ZSCORE', ripe, lane)) end

local g, before = lane_gate(), state()
local r = g.record(lane)
local opened = r.halt ~= '' and redis.call('HEXISTS', letters, r.halt) == 0
if opened then r.halt = '' end
g.touch(lane)
gate_close()
if not opened and state() == before then return 0 end
redis.call('HINCRBY', counters, 'repaired', 1)
return 1
