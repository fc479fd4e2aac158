#!lua flags=no-writes,allow-stale
-- orders: what a worker is asked to do: types not to take, whether to drain, whether to publish events.
-- KEYS paused drains tail
-- ARGV worker
-- Returns {{paused types...}, 1 to drain, 1 if a subscriber wants events}
return {
  redis.call('HKEYS', paused), redis.call('HEXISTS', drains, worker), redis.call('EXISTS', tail)}
