#!lua flags=allow-oom
-- leave: forget a worker that has ended, and its consumers as far as they hold nothing.
--
-- XGROUP DELCONSUMER drops what is pending for ever, hence the look first, in the same script.
-- KEYS workers heartbeats streams...
-- ARGV worker group
-- Returns how many consumers were removed
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
local removed = 0
for n = 3, #KEYS do
  local held = redis.pcall('XPENDING', KEYS[n], ARGV[2], '-', '+', 1, ARGV[1])
  if not held.err and #held == 0 then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[n], ARGV[2], ARGV[1])
    removed = removed + 1
  end
end
return removed
