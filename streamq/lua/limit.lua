#!lua flags=allow-oom
-- limit: set the limits of one lane, or in lane '' of the type: running;interval;burst;weight, as an operator wants them
-- instead of the policy's; '' goes back to these.
--
-- It holds at once: who may go now is admitted, a batch in this call. Nobody is stopped.
-- USES lane_gate lane_tell note
-- KEYS limits lanes policy
-- ARGV lane wanted action about task_type wake
-- Returns what was set before, or ''; `!` where the type has no lanes and no limits
if wanted ~= '' and not lane_policy().gate then return '!' end
local before = redis.call('HGET', limits, lane) or ''
if wanted == '' then redis.call('HDEL', limits, lane) else redis.call('HSET', limits, lane, wanted) end
if lane ~= '' then lane_gate().touch(lane) else lane_gate() end
note(1)
gate_close()
return before
