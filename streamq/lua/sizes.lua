#!lua flags=no-writes,allow-stale
-- sizes: the sizes of the structures that must be consistent.
-- KEYS index dead letters cancels waiters gone groups expiring unique after
-- ARGV
-- Returns {index, dead, letters, cancels, waiters, gone, groups, expiring, unique, after}
return {
  redis.call('HLEN', index), redis.call('ZCARD', dead), redis.call('HLEN', letters),
  redis.call('HLEN', cancels), redis.call('ZCARD', waiters), redis.call('ZCARD', gone),
  redis.call('ZCARD', groups), redis.call('ZCARD', expiring), redis.call('HLEN', unique), redis.call('HLEN', after)}
