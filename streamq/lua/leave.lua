#!lua flags=allow-oom
-- leave: remove a worker that has ended, and those of its consumers that hold nothing.
--
-- XGROUP DELCONSUMER drops pending deliveries for ever, so they are checked first, in the same script.
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
