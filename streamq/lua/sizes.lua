#!lua flags=no-writes,allow-stale
-- sizes: the sizes of the structures that must be consistent.
-- KEYS index dead letters cancels waiters gone groups expiring unique after lanes
-- ARGV
-- Returns {index, dead, letters, cancels, waiters, gone, groups, expiring, unique, after, scored: the rows of
-- lanes and of groups whose score is not 0}
local function scored(key) return redis.call('ZCOUNT', key, '-inf', '(0') + redis.call('ZCOUNT', key, '(0', '+inf') end
return {
  redis.call('HLEN', index), redis.call('ZCARD', dead), redis.call('HLEN', letters),
  redis.call('HLEN', cancels), redis.call('ZCARD', waiters), redis.call('ZCARD', gone),
  redis.call('ZCARD', groups), redis.call('ZCARD', expiring), redis.call('HLEN', unique), redis.call('HLEN', after),
  scored(lanes) + scored(groups)}
