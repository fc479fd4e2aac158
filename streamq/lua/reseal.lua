#!lua flags=allow-oom
-- reseal: put the same payload and errors of a dead letter, sealed with another key, in their place.
--
-- Only what is still as the caller read it is replaced.
-- USES letter_in note
-- KEYS letters
-- ARGV id payload_before payload failures_before failures action about
-- Returns 1 if they were replaced
local letter = letter_in(redis.call('HGET', letters, id))
if not letter or not all_text(letter[4]) then return 0 end
local fields, place = letter[4], {}
for n = 1, #fields - 1, 2 do place[fields[n]] = n + 1 end
local p, f = place.p, place.f
if not p or fields[p] ~= payload_before or (f and fields[f] or '') ~= failures_before then return 0 end
fields[p] = payload
if f then fields[f] = failures end
redis.call('HSET', letters, id, cmsgpack.pack(letter))
note(1)
return 1
