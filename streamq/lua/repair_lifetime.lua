#!lua flags=allow-oom
-- repair_lifetime: let a key live for ever that must, or give one a lifetime that must have one.
-- KEYS key counters...
-- ARGV lifetime_ms
-- Returns how many keys were repaired; `lifetime_ms` 0 is for ever
local life, repaired = tonumber(lifetime_ms), 0
if life == 0 then
  repaired = redis.call('PERSIST', key)
elseif redis.call('PTTL', key) == -1 then
  repaired = redis.call('PEXPIRE', key, life)
end
for n = first_key, repaired > 0 and #KEYS or 0 do redis.call('HINCRBY', KEYS[n], 'repaired', repaired) end
return repaired
