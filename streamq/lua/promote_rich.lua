#!lua flags=allow-oom
-- promote_rich: as promote, of tasks that take part in more than their stream: a lane, a lock.
--
-- USES clock dead_letter identified lane_promote letter_in ring row_fields
-- KEYS schedule index counters high normal low
-- ARGV limit
-- Returns {moved, when the next one is due in ms or -1, now in us}
-- BODY promote
