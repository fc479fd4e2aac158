-- memo_names(head): yields the names of a task's steps.
--
-- The memos of all tasks of a type are fields of one hash: under a task's id the number of bytes, and the names, each
-- behind a NUL; under id, NUL and name the memo of a step.
local function memo_names(head) return string.gmatch(head, '%z([^%z]+)') end
