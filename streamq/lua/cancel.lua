#!lua flags=allow-oom
-- cancel: end a task that has not started; ask its worker where it has.
--
-- The request to a worker is kept in `cancels` until the task ends, whoever holds it then; the message
-- on the control channel only makes it quick.
-- USES row_of
-- KEYS schedule index counters cancels waiters gone dead high normal low suspect action_log actions expiring
-- ARGV group id task_id control done action about
-- Returns cancelled (also where it was before), requested, dead or unknown
local streams = {h = high, n = normal, l = low, s = suspect}

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

local function cancelled()
  local time = redis.call('TIME')
  redis.call('ZADD', gone, string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)), 'x' .. id)
  redis.call('HDEL', index, id)
  redis.call('HDEL', cancels, id)
  redis.call('ZREM', expiring, id)
  redis.call('HINCRBY', counters, 'cancelled', 1)
  if redis.call('ZREM', waiters, id) == 1 then redis.call('PUBLISH', done .. id, 'x') end
  note(action_log, actions, action, about, 1)
  return 'cancelled'
end

local place = redis.call('HGET', index, id) or id
local kind = string.sub(place, 1, 1)
local due, number = string.match(place, '^d(%d+)-(%d+)$')
if due then
  local row = row_of(schedule, due, tonumber(number))
  if row then
    redis.call('ZREM', schedule, row)
    return cancelled()
  end
end
local stream, entry = streams[kind], string.sub(place, 2)
local found = stream and redis.pcall('XRANGE', stream, entry, entry)
if found and not found.err and found[1] then  -- what the index says may be no entry's id
  local held = redis.pcall('XPENDING', stream, group, entry, entry, 1)
  if held.err or #held == 0 then
    redis.call('XDEL', stream, entry)
    return cancelled()
  end
  redis.call('HSET', cancels, id, '1')
  redis.call('PUBLISH', control, 'cancel ' .. task_id)
  note(action_log, actions, action, about, 1)
  return 'requested'
end
if redis.call('ZSCORE', dead, id) then return 'dead' end
if redis.call('ZSCORE', gone, 'x' .. id) then return 'cancelled' end  -- the reply to the first call was lost
return 'unknown'
