#!lua flags=no-writes,allow-stale
-- orders: what a worker is asked to do: which types to leave alone, whether to drain, whether to tell.
-- KEYS paused drains tail
-- ARGV worker
-- Returns {{paused types...}, 1 to drain, 1 where somebody listens to events}
return {
  redis.call('HKEYS', paused), redis.call('HEXISTS', drains, worker), redis.call('EXISTS', tail)}
