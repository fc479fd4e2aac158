#!lua flags=allow-oom
-- purge: delete dead letters for good, oldest first or by id.
-- KEYS dead letters groups counters action_log actions
-- ARGV limit since_ms until_ms fingerprint action about ids...
-- Returns {purged, dead letters of this kind that are left}
local first = '[' .. fingerprint .. ' ' .. string.format('%013.0f', tonumber(since_ms))
local last = '(' .. fingerprint .. ' ' .. string.format('%013.0f', math.min(tonumber(until_ms) + 1, 9999999999999))
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
for n = first_arg, #ARGV do ids[#ids + 1] = ARGV[n] end
if #ids == 0 and fingerprint == '' then
  ids = redis.call('ZRANGE', dead, since_ms, until_ms, 'BYSCORE', 'LIMIT', 0, limit)
elseif #ids == 0 then
  local members = redis.call('ZRANGE', groups, first, last, 'BYLEX', 'LIMIT', 0, limit)
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
if purged > 0 then redis.call('HINCRBY', counters, 'purged', purged) end
note(action_log, actions, action, about, purged)
if #ARGV < first_arg then
  left = fingerprint == '' and redis.call('ZCOUNT', dead, since_ms, until_ms)
    or redis.call('ZLEXCOUNT', groups, first, last)
end
return {purged, left}
