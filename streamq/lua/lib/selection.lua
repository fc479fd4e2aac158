-- selection(skip): the given ids, or the oldest dead letters, of all or of one error group (its members sort
-- by time of death).
-- left_over(): how many dead letters of this kind there are.
-- USES level
-- KEYS dead groups
-- ARGV limit since_ms until_ms fingerprint
local first_member = '[' .. fingerprint .. ' ' .. string.format('%013.0f', tonumber(since_ms))
local last_member = '(' .. fingerprint .. ' '
  .. string.format('%013.0f', math.min(tonumber(until_ms) + 1, 9999999999999))

local function selection(skip)
  local ids = {}
  for n = first_arg, #ARGV do ids[#ids + 1] = ARGV[n] end
  if #ids > 0 then return ids end
  if fingerprint == '' then
    return redis.call('ZRANGE', dead, since_ms, until_ms, 'BYSCORE', 'LIMIT', skip, limit)
  end
  level(groups, 1000)
  ids = redis.call('ZRANGE', groups, first_member, last_member, 'BYLEX', 'LIMIT', skip, limit)
  local own = {}
  for _, member in ipairs(ids) do
    -- One of another group is among them if even more members have a score.
    if string.sub(member, 1, #fingerprint + 1) == fingerprint .. ' ' then
      own[#own + 1] = string.match(member, '^.* (.*)$') or member
    end
  end
  return own
end

local function left_over()
  if fingerprint == '' then return redis.call('ZCOUNT', dead, since_ms, until_ms) end
  return redis.call('ZLEXCOUNT', groups, first_member, last_member)
end
