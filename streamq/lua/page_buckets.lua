#!lua flags=no-writes,allow-stale
-- page_buckets: the buckets with results (minutes, or groups of tasks that began in the schedule), newest
-- first.
-- KEYS buckets
-- ARGV from limit
-- Returns {member...}, starting with that of `from`, which is `=` and a member, or empty for the newest;
-- nothing if that member was removed
local first = 0
if from ~= '' then
  first = redis.call('ZREVRANK', buckets, string.sub(from, 2))
  if not first then return {} end
end
return redis.call('ZRANGE', buckets, first, first + tonumber(limit) - 1, 'REV')
