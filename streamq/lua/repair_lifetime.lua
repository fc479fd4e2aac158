#!lua flags=allow-oom
-- repair_lifetime: remove the expiry of a key that must not have one, or set one on a key that must.
-- KEYS key counters...
-- ARGV lifetime_ms
-- Returns how many keys were repaired; `lifetime_ms` 0 means no expiry
local life, repaired = tonumber(lifetime_ms), 0
if life == 0 then
  repaired = redis.call('PERSIST', key)
elseif redis.call('PTTL', key) == -1 then
  repaired = redis.call('PEXPIRE', key, life)
end
for n = first_key, repaired > 0 and #KEYS or 0 do redis.call('HINCRBY', KEYS[n], 'repaired', repaired) end
return repaired
