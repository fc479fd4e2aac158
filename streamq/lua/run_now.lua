#!lua flags=allow-oom
-- run_now: make a scheduled task ready at once.
-- USES ring row_of
-- KEYS schedule index high normal low action_log actions doorbell ready bell
-- ARGV id action about
-- Returns 1, or 0 where the task is not in the schedule
local streams = {h = high, n = normal, l = low}
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
local due, number = string.match(redis.call('HGET', index, id) or id, '^d(%d+)-(%d+)$')
local row = due and row_of(schedule, due, tonumber(number))
if not row then return 0 end
local letter = string.match(row, '%D')
local good, fields = pcall(cmsgpack.unpack, string.sub(row, (string.find(row, '%D') or #row) + 1))
if not good or type(fields) ~= 'table' or not streams[letter] then return 0 end  -- promote will bury it
local known = false
for n = 1, #fields, 2 do known = known or fields[n] == 'i' end
if not known then
  fields[#fields + 1] = 'i'
  fields[#fields + 1] = id
end
redis.call('HSET', index, id, letter .. redis.call('XADD', streams[letter], '*', unpack(fields)))
ring(doorbell, ready, bell, streams[letter])
redis.call('ZREM', schedule, row)
note(action_log, actions, action, about, 1)
return 1
