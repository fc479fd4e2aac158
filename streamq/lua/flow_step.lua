#!lua flags=allow-oom
-- flow_step: as `flow_advance`, and let those who may run become tasks in the same step, if they are of this type and page.
--
-- Which type and page these are is the caller's guess: others are left to `flow_release`.
-- USES flow_stepped
-- KEYS flow flow_states flow_items flows inbox types dead letters groups counters index schedule expiring gone high normal low
-- ARGV flow_id task_type map first wake page rows...
-- Returns as `flow_advance`, without those that were released
if not flow_open() then return flow_unknown(first_arg) end
return flow_stepped(first_arg)
