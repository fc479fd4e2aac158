#!lua flags=allow-oom
-- watch: keep the doorbell in use, and choose one worker at a time to search for tasks that did not ring.
--
-- While such tasks were found in the last ten minutes (`found` is 1) a worker searches every `soon_ms`, else
-- every `seldom_ms`. With `force` the caller searches at once.
-- USES clock
-- KEYS doorbell
-- ARGV soon_ms seldom_ms ttl_ms found force
-- Returns 0 if the caller is to search, else the ms until a worker is
local now = clock()
local last, busy = string.match(redis.call('GET', doorbell) or '', '^(%d+) (%d+)$')
last, busy = tonumber(last) or 0, tonumber(busy) or 0
if found == '1' then busy = now + 600000 end
local interval = tonumber(busy > now and soon_ms or seldom_ms)
local left = math.min(interval, last + interval - now)
if force == '1' or left <= 0 then last, left = now, 0 end
redis.call('SET', doorbell, string.format('%.0f %.0f', last, busy), 'PX', ttl_ms)
return left
