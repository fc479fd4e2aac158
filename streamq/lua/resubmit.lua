#!lua flags=allow-oom
-- resubmit: put a dead letter's successor in its place: a new task with another payload.
--
-- The letter goes and the new task names it in field `o`. The books take the letter for purged and the
-- new task for accepted. A repeated call (the same `action`) gets the first one's answer.
-- USES ring
-- KEYS dead letters groups counters high normal low log actions doorbell ready bell
-- ARGV local_id payload action about
-- Returns the new local id, or '' where there is no such dead letter
local dead, letters, counters, rows = KEYS[1], KEYS[2], KEYS[4], KEYS[9]
local streams = {h = KEYS[5], n = KEYS[6], l = KEYS[7]}
local id, action = ARGV[1], ARGV[3]
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
-- What is no letter of ours has no successor: it stays.
local function opened(packed)
  local good, letter = pcall(cmsgpack.unpack, packed)
  good = good and type(letter) == 'table' and type(letter[4]) == 'table' and #letter[4] <= 1000
  for _, field in ipairs(good and letter[4] or {}) do good = good and type(field) == 'string' end
  return good and #letter[4] % 2 == 0 and letter
end
local packed = redis.call('HGET', letters, id)
local letter = packed and opened(packed)
if not letter then return redis.call('HGET', rows, action .. '=') or '' end
local kept = {m = true}
local fields = {'p', ARGV[2], 'o', id}
for n = 1, #letter[4], 2 do
  if kept[letter[4][n]] then
    fields[#fields + 1] = letter[4][n]
    fields[#fields + 1] = letter[4][n + 1]
  end
end
local mark = streams[letter[2]] and letter[2] or 'n'
local new = mark .. redis.call('XADD', streams[mark], '*', unpack(fields))
ring(KEYS[10], KEYS[11], KEYS[12], streams[mark])
redis.call('ZREM', dead, id)
redis.call('HDEL', letters, id)
if type(letter[3]) == 'string' and type(letter[5]) == 'string' then
  redis.call('ZREM', KEYS[3], letter[5] .. ' ' .. letter[3] .. ' ' .. id)
end
redis.call('HINCRBY', counters, 'purged', 1)
redis.call('HINCRBY', counters, 'accepted', 1)
note(KEYS[8], rows, action, ARGV[4], 1)
redis.call('HSET', rows, action .. '=', new)
return new
