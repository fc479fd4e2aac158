#!lua flags=allow-oom
-- repair_claim: give a task the lock that it claims and no task holds, or make it the successor of the holder.
--
-- A second task that waits for the same holder waits in vain: it becomes ready, and runs beside the other.
-- USES field identified in_stream lane_row letter_in ring scheduled streams unique_claim unique_free waits
-- KEYS unique after index schedule counters
-- ARGV done place
-- Returns how many were repaired
local due, number = scheduled(place)
local row = due and row_of(due, number)
local fields
if due then
  fields = row and row_fields(row)
elseif string.sub(place, 1, 1) == 'k' then
  fields = parked_at(place)
else
  fields = in_stream(place)
end
local what, until_started, asks = unique_claim(fields and field(fields, 'c'))
if not what then return 0 end
local id = field(fields, 'i') or place

local function wait_again()
  local follows = redis.call('HGET', after, what)
  if follows == id then return 0 end
  if not follows then
    redis.call('HSET', after, what, id)
    if redis.call('HEXISTS', unique, what) == 0 then unique_free(what) end
    return 1
  end
  local letter = string.match(row, '%D')
  if not streams[letter] or #fields % 2 == 1 or #fields > 900 or not all_text(fields) then return 0 end
  identified(fields, id)
  redis.call('ZREM', schedule, row)
  if asks then
    unique_due(id, number, letter, fields)
    return 1
  end
  redis.call('HSET', index, id, letter .. redis.call('XADD', streams[letter], '*', unpack(fields)))
  ring(streams[letter])
  return 1
end

local done_ = 0
if waits(due) then
  done_ = wait_again()
elseif not until_started then
  done_ = redis.call('HSETNX', unique, what, id)
end
if done_ > 0 then redis.call('HINCRBY', counters, 'repaired', 1) end
return done_
