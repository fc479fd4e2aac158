-- lane_tell(): wake the daemon when a lane needs it sooner than it knows. The gate calls this.
-- USES lane_gate
-- ARGV task_type wake
local function lane_tell() redis.call('PUBLISH', wake, task_type) end
gate_tell = lane_tell
