-- in_time(more): return whether this call has time to check more: it has used less than 2 ms of the processor. more: things
-- that were checked since it was last asked. Redis before 7.4 has no clock for scripts, so there a call is 64 of them.
-- Only for scripts that read: how far one gets differs from call to call.
local SECONDS_OF_A_CALL, THINGS_OF_A_CALL = 0.002, 64
local clock_there, processor_time = pcall(function() return os.clock end)
local time_begun, things_checked = clock_there and processor_time(), 0
local function in_time(more)
  things_checked = things_checked + more
  if clock_there then return processor_time() - time_begun < SECONDS_OF_A_CALL end
  return things_checked < THINGS_OF_A_CALL
end
