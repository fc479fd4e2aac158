#!lua flags=allow-oom
-- leave: forget a worker that has ended, and its consumers as far as they hold nothing.
--
-- XGROUP DELCONSUMER drops what is pending for ever, hence the look first, in the same script.
-- KEYS beats details streams...
-- ARGV worker group
-- Returns how many consumers were removed
redis.call('ZREM', beats, worker)
redis.call('HDEL', details, worker)
local removed = 0
for n = first_key, #KEYS do
  local held = redis.pcall('XPENDING', KEYS[n], group, '-', '+', 1, worker)
  if not held.err and #held == 0 then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[n], group, worker)
    removed = removed + 1
  end
end
return removed
