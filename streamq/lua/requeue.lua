#!lua flags=allow-oom
-- requeue: put dead letters back into their streams with fresh attempts, oldest first or by id.
--
-- Only what died until `until_ms` is taken, so that a task which dies again at once is not met twice
-- by the caller that asks for everything. The history of errors stays with the task. What cannot be a
-- task again stays: a letter without a payload (foreign, vanished, damaged). Who asks for everything passes
-- over as many as have stayed before (`skip`).
-- USES ring
-- KEYS dead letters groups counters index high normal low action_log actions doorbell ready bell
-- ARGV limit skip since_ms until_ms fingerprint action about ids...
-- Returns {requeued, dead letters of this kind that are left, how many of those looked at stay}
local streams = {h = high, n = normal, l = low}
local dropped = {a = true, l = true, q = true, x = true}
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
  ids = redis.call('ZRANGE', dead, since_ms, until_ms, 'BYSCORE', 'LIMIT', skip, limit)
elseif #ids == 0 then
  local members = redis.call('ZRANGE', groups, first, last, 'BYLEX', 'LIMIT', skip, limit)
  for n, member in ipairs(members) do ids[n] = string.match(member, '^.* (.*)$') or member end
end

local function opened(packed)
  local good, letter = pcall(cmsgpack.unpack, packed)
  if not good or type(letter) ~= 'table' or type(letter[4]) ~= 'table' then return nil end
  local fields = letter[4]
  for _, field in ipairs(fields) do good = good and type(field) == 'string' end
  local payload = false
  for n = 1, #fields, 2 do payload = payload or fields[n] == 'p' end
  return good and payload and #fields % 2 == 0 and #fields <= 1000 and letter or nil
end

local function revived(id, fields)
  local out, known = {}, false
  for n = 1, #fields, 2 do
    if not dropped[fields[n]] then
      out[#out + 1] = fields[n]
      out[#out + 1] = fields[n + 1]
      known = known or fields[n] == 'i'
    end
  end
  if not known then
    out[#out + 1] = 'i'
    out[#out + 1] = id
  end
  return out
end

local requeued, stay = 0, 0
for _, id in ipairs(ids) do
  local packed = redis.call('HGET', letters, id)
  local letter = packed and opened(packed)
  if letter then
    local mark = streams[letter[2]] and letter[2] or 'n'
    local entry = redis.call('XADD', streams[mark], '*', unpack(revived(id, letter[4])))
    redis.call('HSET', index, id, mark .. entry)
    ring(doorbell, ready, bell, streams[mark])
    redis.call('ZREM', dead, id)
    redis.call('HDEL', letters, id)
    if type(letter[3]) == 'string' and type(letter[5]) == 'string' then
      redis.call('ZREM', groups, letter[5] .. ' ' .. letter[3] .. ' ' .. id)
    end
    requeued = requeued + 1
  elseif packed or #ARGV < first_arg then
    stay = stay + 1
  end
end
if requeued > 0 then redis.call('HINCRBY', counters, 'requeued', requeued) end
note(action_log, actions, action, about, requeued)
if #ARGV < first_arg then
  left = fingerprint == '' and redis.call('ZCOUNT', dead, since_ms, until_ms)
    or redis.call('ZLEXCOUNT', groups, first, last)
end
return {requeued, left, stay}
