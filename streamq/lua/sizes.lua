#!lua flags=no-writes,allow-stale
-- sizes: the sizes of the structures that must agree with one another.
-- KEYS index dead letters cancels waiters gone groups expiring
-- ARGV
-- Returns {index, dead, letters, cancels, waiters, gone, groups, expiring}
return {
  redis.call('HLEN', KEYS[1]), redis.call('ZCARD', KEYS[2]), redis.call('HLEN', KEYS[3]),
  redis.call('HLEN', KEYS[4]), redis.call('ZCARD', KEYS[5]), redis.call('ZCARD', KEYS[6]),
  redis.call('ZCARD', KEYS[7]), redis.call('ZCARD', KEYS[8])}
