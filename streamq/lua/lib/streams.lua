-- streams[letter]: a task type's streams by the letter that places and rows begin with.
-- KEYS high normal low suspect
local streams = {h = high, n = normal, l = low, s = suspect}
