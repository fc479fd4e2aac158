#!lua flags=no-writes,allow-stale
-- page_buckets: the minutes, and groups of tasks that began in the schedule, that have results; newest first.
-- KEYS buckets
-- ARGV from limit
-- Returns {member...}, beginning with `from` where it is not empty; nothing where that has gone
local first = 0
if ARGV[1] ~= '' then
  first = redis.call('ZREVRANK', KEYS[1], ARGV[1])
  if not first then return {} end
end
return redis.call('ZRANGE', KEYS[1], first, first + tonumber(ARGV[2]) - 1, 'REV')
