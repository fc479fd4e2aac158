#!lua flags=no-writes
-- policy_rules: read the rules of a type's lanes and unique keys that are in force, and which are held (see register).
-- USES lane_policy rules_kept
-- KEYS policy rules
-- ARGV
-- Returns {gate, lane, unique of those in force, the features that held ones need}, '' for each that there is not
local found, kept = lane_policy(), rules_kept(redis.pcall('GET', rules))
local locked, held = redis.pcall('HGET', policy, 'unique'), {}
if type(locked) ~= 'string' then locked = kept.unique end
if kept.held and kept.held.gate then held[#held + 1] = 'lanes' end
if kept.held and kept.held.unique then held[#held + 1] = 'unique' end
return {found.gate or '', found.lane or '', locked or '', table.concat(held, ',')}
