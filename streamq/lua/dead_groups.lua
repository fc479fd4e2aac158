#!lua flags=no-writes,allow-stale
-- dead_groups: groups of dead letters with the same error raised in the same place, after a fingerprint.
--
-- A member of `groups` is a fingerprint, the time of death (13 digits) and a local id. A group's members are
-- adjacent and sorted by time, so counting them is a ZLEXCOUNT between two texts, without a scan.
-- USES opened shortened
-- KEYS groups letters
-- ARGV after limit
-- Returns {{fingerprint, count, first_ms, last_ms, last local id, reason, {its fields, payload
-- truncated...}}...}
local limit = tonumber(limit)
-- A member that streamq did not write has no time of death.
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
  -- '!' sorts after the space: all members of the group come before it.
  local low, high = '[' .. fingerprint .. ' ', '(' .. fingerprint .. '!'
  local last = redis.call('ZRANGE', groups, high, low, 'BYLEX', 'REV', 'LIMIT', 0, 1)[1]
  if last then  -- a member without a space was not written by streamq and is in no group
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
