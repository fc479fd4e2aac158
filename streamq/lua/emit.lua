#!lua
-- emit: append events of a running task to its live stream, for those who watch it.
--
-- Nothing is written unless the delivery is pending under this consumer. The stream keeps about the last `most` events and
-- lives for `life_ms` after the last, as nothing else deletes it.
-- USES streams
-- KEYS live
-- ARGV group consumer place channel most life_ms attempt events...
-- Returns 1, or 0 if the delivery is no longer the caller's; an event is its kind and its JSON
local stream, entry = streams[string.sub(place, 1, 1)], string.sub(place, 2)
local held = redis.pcall('XPENDING', stream, group, entry, entry, 1, consumer)
if held.err or #held == 0 then return 0 end
for n = first_arg, #ARGV, 2 do
  redis.call('XADD', live, 'MAXLEN', '~', most, '*', 'k', ARGV[n], 'a', attempt, 'd', ARGV[n + 1])
end
redis.call('PEXPIRE', live, life_ms)
redis.call('PUBLISH', channel, '1')
return 1
