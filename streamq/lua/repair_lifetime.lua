#!lua flags=allow-oom
-- repair_lifetime: let a key live for ever that must, or give one a lifetime that must have one.
-- KEYS key counters...
-- ARGV lifetime_ms
-- Returns how many keys were repaired; `lifetime_ms` 0 is for ever
local life, repaired = tonumber(ARGV[1]), 0
if life == 0 then
  repaired = redis.call('PERSIST', KEYS[1])
elseif redis.call('PTTL', KEYS[1]) == -1 then
  repaired = redis.call('PEXPIRE', KEYS[1], life)
end
if repaired > 0 and KEYS[2] then redis.call('HINCRBY', KEYS[2], 'repaired', repaired) end
return repaired
