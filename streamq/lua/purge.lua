#!lua flags=allow-oom
-- purge: delete dead letters for good, oldest first or by id.
-- KEYS dead letters groups counters log actions
-- ARGV limit since_ms until_ms fingerprint action about ids...
-- Returns {purged, dead letters of this kind that are left}
local dead, letters, groups = KEYS[1], KEYS[2], KEYS[3]
local since, until_, fingerprint = ARGV[2], ARGV[3], ARGV[4]
local first = '[' .. fingerprint .. ' ' .. string.format('%013.0f', tonumber(since))
local last = '(' .. fingerprint .. ' ' .. string.format('%013.0f', math.min(tonumber(until_) + 1, 9999999999999))
-- The log of operators' actions has one row an action, however many calls it takes.
local function note(log, rows, action, about, done)
  if action == '' then return end
  local time = redis.call('TIME')
  local stamp = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
  if redis.call('HSETNX', rows, action, stamp .. ' ' .. about) == 1 then
    redis.call('LPUSH', log, action)
    if redis.call('LLEN', log) > 1000 then
      local old = redis.call('RPOP', log)
      redis.call('HDEL', rows, old, old .. '#', old .. '=')
    end
  end
  redis.call('HINCRBY', rows, action .. '#', done)
end
-- Which: by id, or oldest first of all, or of one group of errors (its members sort by time of death).
local ids, left = {}, 0
for n = 7, #ARGV do ids[#ids + 1] = ARGV[n] end
if #ids == 0 and fingerprint == '' then
  ids = redis.call('ZRANGE', dead, since, until_, 'BYSCORE', 'LIMIT', 0, ARGV[1])
elseif #ids == 0 then
  local members = redis.call('ZRANGE', groups, first, last, 'BYLEX', 'LIMIT', 0, ARGV[1])
  for n, member in ipairs(members) do ids[n] = string.match(member, '^.* (.*)$') or member end
end
local purged = 0
for _, id in ipairs(ids) do
  local packed = redis.call('HGET', letters, id)
  -- What is no letter of ours is in no group.
  local good, letter = pcall(cmsgpack.unpack, packed or '')
  if good and type(letter) == 'table' and type(letter[3]) == 'string' and type(letter[5]) == 'string' then
    redis.call('ZREM', groups, letter[5] .. ' ' .. letter[3] .. ' ' .. id)
  end
  purged = purged + redis.call('ZREM', dead, id)
  redis.call('HDEL', letters, id)
end
if purged > 0 then redis.call('HINCRBY', KEYS[4], 'purged', purged) end
note(KEYS[5], KEYS[6], ARGV[5], ARGV[6], purged)
if #ARGV < 7 then
  left = fingerprint == '' and redis.call('ZCOUNT', dead, since, until_)
    or redis.call('ZLEXCOUNT', groups, first, last)
end
return {purged, left}
