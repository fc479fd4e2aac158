#!lua flags=allow-oom
-- open_lane: let a lane go on that a dead letter or a handler's RateLimited has shut.
-- USES lane_gate lane_tell note
-- KEYS slots
-- ARGV lane action about task_type wake
-- Returns 1, or 0 where nothing kept it shut
local g = lane_gate()
local r = g.record(lane)
local opened = (r.halt ~= '' or r.held_until > g.now) and 1 or 0
r.halt, r.held_until = '', 0
g.touch(lane)
note(opened)
gate_close()
return opened
