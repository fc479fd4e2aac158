#!lua
-- checkpoint: store the memo of a step of a running task, once; or, with `again` 1, its latest.
--
-- Nothing is stored unless the delivery is pending under this consumer: a worker that was given up for dead cannot write.
-- A second call for the same step answers what is stored.
-- USES held_by memo_put
-- KEYS steps
-- ARGV group consumer place id name value again most most_bytes
-- Returns {'stored'}, {'kept', the memo}, {'lost'}, or {'full', the number of memos, of their bytes with this one}
if not held_by(place) then return {'lost'} end

local kept = redis.call('HGET', steps, id .. '\0' .. name)
if kept and again ~= '1' then return {'kept', kept} end
local number, bytes = memo_put(id, name, value)
if number then return {'full', number, bytes} end
return {'stored'}
