#!lua flags=no-writes,allow-stale
-- dead_groups: the groups of dead letters with one error at one place, from a fingerprint on.
--
-- A member of `groups` is a fingerprint, the time of death (13 digits) and a local id: a group's members
-- lie together and sort by time, so how many there are is a count between two texts that walks over nothing.
-- KEYS groups letters
-- ARGV after limit
-- Returns {{fingerprint, count, first_ms, last_ms, last local id, reason, {its fields...}}...}
local groups, limit = KEYS[1], tonumber(ARGV[2])
local found, from = {}, ARGV[1] == '' and '-' or '(' .. ARGV[1] .. '!'

while #found < limit do
  local first = redis.call('ZRANGE', groups, from, '+', 'BYLEX', 'LIMIT', 0, 1)[1]
  if not first then break end
  local fingerprint = string.match(first, '^[^ ]*')
  -- '!' follows the space: all members of the group lie before it.
  local low, high = '[' .. fingerprint .. ' ', '(' .. fingerprint .. '!'
  local last = redis.call('ZRANGE', groups, high, low, 'BYLEX', 'REV', 'LIMIT', 0, 1)[1]
  local died, id = string.match(last, '^[^ ]* (%d+) (.+)$')
  local packed = redis.call('HGET', KEYS[2], id or '')
  local letter = packed and cmsgpack.unpack(packed) or {'', '', '', {}}
  found[#found + 1] = {
    fingerprint, redis.call('ZLEXCOUNT', groups, low, high), string.match(first, ' (%d+) ') or '0', died or '0',
    id or '', letter[1], letter[4]}
  from = high
end
return found
