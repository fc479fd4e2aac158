#!lua flags=allow-oom
-- settle_rich: as settle, of tasks that take part in more than their stream: a lane, a lock, follow-ups, steps, a flow.
--
-- Their completions come as items, since what a task holds is in its entry: ops.c reads it. What a part needs that stands in
-- a block of the body is named here, for all of it.
-- USES clock group_of later streams effects lane_again lane_claim lane_ghost lane_probe lane_tell
-- KEYS writer policy schedule index dead letters counters cancels waiters gone high normal low suspect groups buckets expiring doorbell ready bell results...
-- ARGV task_type sequence memory_ms group done wake shape ttls_and_tasks...
-- Returns 'all' where every delivery was settled by this call, else a string with 1 or 0 for each
-- BODY settle
