-- waits(due): whether a row of the schedule with this due time waits for the end of another task.
-- WAITS: its due time (see keys.SUCCESSOR_DUE_MS).
local WAITS = 99999999999999

local function waits(due) return due ~= nil and tonumber(due) >= WAITS end
