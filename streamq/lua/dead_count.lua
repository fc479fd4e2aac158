#!lua flags=no-writes,allow-stale
-- dead_count: how many dead letters died in a span of time, of all or of one group.
-- KEYS dead groups
-- ARGV since_ms until_ms fingerprint
-- Returns the count
if ARGV[3] == '' then return redis.call('ZCOUNT', KEYS[1], ARGV[1], ARGV[2]) end
return redis.call(
  'ZLEXCOUNT', KEYS[2], '[' .. ARGV[3] .. ' ' .. string.format('%013.0f', tonumber(ARGV[1])),
  '(' .. ARGV[3] .. ' ' .. string.format('%013.0f', math.min(tonumber(ARGV[2]) + 1, 9999999999999)))
