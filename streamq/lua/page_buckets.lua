#!lua flags=no-writes,allow-stale
-- page_buckets: the minutes, and groups of tasks that began in the schedule, that have results; newest first.
-- KEYS buckets
-- ARGV from limit
-- Returns {member...}, beginning with that of `from`, which is `=` and a member, or empty for the newest;
-- nothing where that has gone
local first = 0
if ARGV[1] ~= '' then
  first = redis.call('ZREVRANK', KEYS[1], string.sub(ARGV[1], 2))
  if not first then return {} end
end
return redis.call('ZRANGE', KEYS[1], first, first + tonumber(ARGV[2]) - 1, 'REV')
