#!lua flags=allow-oom
-- flow_renew: give keys of a flow this lifetime.
-- KEYS flow flow_pages...
-- ARGV life_ms
-- Returns how many there are
local there = 0
for n = 1, #KEYS do there = there + redis.call('PEXPIRE', KEYS[n], life_ms) end
return there
