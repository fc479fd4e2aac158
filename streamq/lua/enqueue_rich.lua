#!lua
-- enqueue_rich: as enqueue, of tasks that take part in more than their stream: a lane, a lock.
--
-- A head that ends in `*` says that the task's last argument is a JSON object: what it takes part in, by name.
-- USES clock lane_enter
-- KEYS writer types policy rate high normal low suspect schedule counters closed expiring doorbell ready bell keys...
-- ARGV task_type sequence memory_ms wake tasks...
-- Returns an answer for each task, with spaces between: a local id, `=<local id>` (its key's first task), as enqueue does
-- BODY enqueue
