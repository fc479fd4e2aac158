#!lua flags=allow-oom
-- resubmit: put a dead letter's successor in its place: a new task with another payload.
--
-- The letter goes and the new task names it in field `o`. The books take the letter for purged and the
-- new task for accepted. A repeated call (the same `action`) gets the first one's answer.
-- USES ring
-- KEYS dead letters groups counters high normal low action_log actions doorbell ready bell
-- ARGV id payload action about
-- Returns the new local id, or '' where there is no such dead letter
local streams = {h = high, n = normal, l = low}
-- The log of operators' actions has one row an action, however many calls it takes.
local function note(log, actions, action, about, done)
  if action == '' then return end
  local time = redis.call('TIME')
  local stamp = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
  if redis.call('HSETNX', actions, action, stamp .. ' ' .. about) == 1 then
    redis.call('LPUSH', log, action)
    if redis.call('LLEN', log) > 1000 then
      local old = redis.call('RPOP', log)
      redis.call('HDEL', actions, old, old .. '#', old .. '=')
    end
  end
  redis.call('HINCRBY', actions, action .. '#', done)
end
-- What is no letter of ours has no successor: it stays.
local function opened(packed)
  local good, letter = pcall(cmsgpack.unpack, packed)
  good = good and type(letter) == 'table' and type(letter[4]) == 'table' and #letter[4] <= 1000
  for _, field in ipairs(good and letter[4] or {}) do good = good and type(field) == 'string' end
  return good and #letter[4] % 2 == 0 and letter
end
local packed = redis.call('HGET', letters, id)
local letter = packed and opened(packed)
if not letter then return redis.call('HGET', actions, action .. '=') or '' end
local kept = {m = true}
local fields = {'p', payload, 'o', id}
for n = 1, #letter[4], 2 do
  if kept[letter[4][n]] then
    fields[#fields + 1] = letter[4][n]
    fields[#fields + 1] = letter[4][n + 1]
  end
end
local mark = streams[letter[2]] and letter[2] or 'n'
local new = mark .. redis.call('XADD', streams[mark], '*', unpack(fields))
ring(doorbell, ready, bell, streams[mark])
redis.call('ZREM', dead, id)
redis.call('HDEL', letters, id)
if type(letter[3]) == 'string' and type(letter[5]) == 'string' then
  redis.call('ZREM', groups, letter[5] .. ' ' .. letter[3] .. ' ' .. id)
end
redis.call('HINCRBY', counters, 'purged', 1)
redis.call('HINCRBY', counters, 'accepted', 1)
note(action_log, actions, action, about, 1)
redis.call('HSET', actions, action .. '=', new)
return new
