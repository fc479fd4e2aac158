#!lua flags=allow-oom
-- watch: keep the doorbell in use, and tell who is to look for what did not ring: one worker at a time.
--
-- While such tasks were found in the last ten minutes (`found` is 1) somebody looks every `soon_ms`, else every
-- `seldom_ms`. With `force` the caller is to look at once.
-- USES clock
-- KEYS doorbell
-- ARGV soon_ms seldom_ms ttl_ms found force
-- Returns 0 where the caller is to look, else in how many ms somebody is
local now = clock()
local last, busy = string.match(redis.call('GET', doorbell) or '', '^(%d+) (%d+)$')
last, busy = tonumber(last) or 0, tonumber(busy) or 0
if found == '1' then busy = now + 600000 end
local interval = tonumber(busy > now and soon_ms or seldom_ms)
local left = math.min(interval, last + interval - now)
if force == '1' or left <= 0 then last, left = now, 0 end
redis.call('SET', doorbell, string.format('%.0f %.0f', last, busy), 'PX', ttl_ms)
return left
