#!lua flags=allow-oom
-- set_window: let so many tasks of a type whose lanes share fairly be in its streams, and admit who may go now.
-- USES lane_gate lane_tell
-- KEYS policy
-- ARGV window task_type wake
-- Returns 1, or 0 where the type's lanes do not share fairly any more
if string.match(lane_policy().gate or '', '^[^;]*;[^;]*;[^;]*;([^;]*)') ~= '1' then return 0 end
redis.call('HSET', policy, 'window', window)
lane_gate()
gate_close()
return 1
