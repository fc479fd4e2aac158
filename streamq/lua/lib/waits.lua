-- waits(due): whether the row of a task that is due then waits for the end of another task: never by itself.
-- WAITS: when it is due (see keys.SUCCESSOR_DUE_MS).
local WAITS = 99999999999999

local function waits(due) return due ~= nil and tonumber(due) >= WAITS end
