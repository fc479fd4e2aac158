#!lua flags=no-writes,allow-stale
-- dead_count: count the dead letters that died in a time span, of all or of one group.
-- KEYS dead groups
-- ARGV since_ms until_ms fingerprint
-- Returns the count
if fingerprint == '' then return redis.call('ZCOUNT', dead, since_ms, until_ms) end
return redis.call(
  'ZLEXCOUNT', groups, '[' .. fingerprint .. ' ' .. string.format('%013.0f', tonumber(since_ms)),
  '(' .. fingerprint .. ' ' .. string.format('%013.0f', math.min(tonumber(until_ms) + 1, 9999999999999)))
