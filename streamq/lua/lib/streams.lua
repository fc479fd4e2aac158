-- streams[letter]: the streams of a task type by the letters that places and rows begin with.
-- KEYS high normal low suspect
local streams = {h = high, n = normal, l = low, s = suspect}
