#!lua flags=allow-oom
-- tally: add a worker's counts to the rollups of a minute and of a quarter of an hour.
-- KEYS rollups...
-- ARGV ttls_and_counts...
-- Returns how many fields there were; ARGV is the lifetimes in ms, one per key, then fields and numbers
for n, key in ipairs(KEYS) do
  for m = #KEYS + 1, #ARGV, 2 do redis.call('HINCRBY', key, ARGV[m], ARGV[m + 1]) end
  redis.call('PEXPIRE', key, ARGV[n])
end
return (#ARGV - #KEYS) / 2
