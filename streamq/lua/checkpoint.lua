#!lua
-- checkpoint: store the memo of a step of a running task, once.
--
-- Nothing is stored unless the delivery is pending under this consumer: a worker that was given up for dead cannot write.
-- A second call for the same step answers what is stored.
-- USES memo_names streams
-- KEYS steps
-- ARGV group consumer place id name value most most_bytes
-- Returns {'stored'}, {'kept', the memo}, {'lost'}, or {'full', the number of memos, of their bytes with this one}
local stream, entry = streams[string.sub(place, 1, 1)], string.sub(place, 2)
local held = redis.pcall('XPENDING', stream, group, entry, entry, 1, consumer)
if held.err or #held == 0 or #redis.call('XRANGE', stream, entry, entry) == 0 then return {'lost'} end

local kept = redis.call('HGET', steps, id .. '\0' .. name)
if kept then return {'kept', kept} end
local head, number = redis.call('HGET', steps, id) or '0', 0
local bytes = (tonumber(string.match(head, '^%d+')) or 0) + #value
for _ in memo_names(head) do number = number + 1 end
if number >= tonumber(most) or bytes > tonumber(most_bytes) then return {'full', number, bytes} end
local names = string.match(head, '%z.*$') or ''
redis.call(
  'HSET', steps, id, string.format('%.0f', bytes) .. names .. '\0' .. name, id .. '\0' .. name, value)
return {'stored'}
