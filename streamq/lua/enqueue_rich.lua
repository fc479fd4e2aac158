#!lua
-- enqueue_rich: as enqueue, of tasks that take part in more than their stream: a lane, a lock.
--
-- A head that ends in `*` says that the task's last argument is a JSON object: what it takes part in, by name. `unique`
-- is the lock of a unique key: its digest (`key`, hexadecimal), until when it is held (`free`: done or started), and what a
-- `conflict` does: return, raise, replace, reschedule, after, or debounce with `max_wait_ms`.
-- KEYS writer types policy rate high normal low suspect schedule counters closed expiring doorbell ready bell keys...
-- ARGV task_type sequence memory_ms wake tasks...
-- Returns an answer for each task, with spaces between, as enqueue does; `!unique:<local id>` (its key's holder), `!unjoined`
-- BODY enqueue
