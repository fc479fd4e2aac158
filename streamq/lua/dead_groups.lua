#!lua flags=no-writes,allow-stale
-- dead_groups: the groups of dead letters with one error at one place, from a fingerprint on.
--
-- A member of `groups` is a fingerprint, the time of death (13 digits) and a local id: a group's members
-- lie together and sort by time, so how many there are is a count between two texts that walks over nothing.
-- USES opened shortened
-- KEYS groups letters
-- ARGV after limit
-- Returns {{fingerprint, count, first_ms, last_ms, last local id, reason, {its fields, payload cut...}}...}
local limit = tonumber(limit)
-- A member that is none of ours has died at no time.
local function parts(member)
  local died, id = string.match(member, '^[^ ]* (%d+) (.+)$')
  if not died or #died > 15 then return '0', '' end
  return died, id
end

local found, from = {}, after == '' and '-' or '(' .. after .. '!'

local looks = 0
while #found < limit and looks < limit * 10 do
  looks = looks + 1
  local first = redis.call('ZRANGE', groups, from, '+', 'BYLEX', 'LIMIT', 0, 1)[1]
  if not first then break end
  local fingerprint = string.match(first, '^[^ ]*')
  -- '!' follows the space: all members of the group lie before it.
  local low, high = '[' .. fingerprint .. ' ', '(' .. fingerprint .. '!'
  local last = redis.call('ZRANGE', groups, high, low, 'BYLEX', 'REV', 'LIMIT', 0, 1)[1]
  if last then  -- a member without a space, which is none of ours, is in no group
    local died, id = parts(last)
    local packed = redis.call('HGET', letters, id)
    local letter = packed and opened(packed) or {'', '', '', {}}
    found[#found + 1] = {
      fingerprint, redis.call('ZLEXCOUNT', groups, low, high), (parts(first)), died, id, letter[1],
      shortened(letter[4], 16384)}
  end
  from = high
end
return found
