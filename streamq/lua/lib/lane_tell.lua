-- lane_tell(): the gate has the daemon told when a lane must be looked at sooner than the daemon knows.
-- USES lane_gate
-- ARGV task_type wake
local function lane_tell() redis.call('PUBLISH', wake, task_type) end
gate_tell = lane_tell
