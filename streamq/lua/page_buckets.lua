#!lua flags=no-writes,allow-stale
-- page_buckets: the minutes, and groups of tasks that began in the schedule, that have results; newest first.
-- KEYS buckets
-- ARGV from limit
-- Returns {member...}, beginning with that of `from`, which is `=` and a member, or empty for the newest;
-- nothing where that has gone
local first = 0
if from ~= '' then
  first = redis.call('ZREVRANK', buckets, string.sub(from, 2))
  if not first then return {} end
end
return redis.call('ZRANGE', buckets, first, first + tonumber(limit) - 1, 'REV')
