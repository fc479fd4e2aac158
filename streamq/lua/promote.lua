#!lua flags=allow-oom
-- promote: move at most `limit` due tasks from the schedule to their streams.
--
-- A row is a number of 12 to 15 digits, the letter of the priority and the packed fields. Rows are taken in
-- the order of due time, then number. One that cannot be unpacked becomes a dead letter as it is.
-- USES ring
-- KEYS schedule index dead letters groups counters high normal low doorbell ready bell
-- ARGV limit
-- Returns {moved, when the next one is due in ms or -1, now in us}
local streams = {h = high, n = normal, l = low}
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local stamp = string.format('%.0f', now)

local function bury(row)
  local id = string.format('d%s-%.0f', stamp, redis.call('HINCRBY', counters, 'sequence', 1))
  redis.call('ZADD', dead, stamp, id)
  redis.call('HSET', letters, id, cmsgpack.pack({'undecodable', 'n', stamp, {'raw', row}, 'undecodable'}))
  redis.call('ZADD', groups, 0, 'undecodable ' .. stamp .. ' ' .. id)
  redis.call('HINCRBY', counters, 'dead', 1)
end

local function unpacked(row)
  local good, fields = pcall(cmsgpack.unpack, string.sub(row, (string.find(row, '%D') or #row) + 1))
  if not good or type(fields) ~= 'table' or #fields == 0 or #fields % 2 == 1 then return nil end
  if #fields > 1000 then return nil end  -- Lua could not append it
  for n = 1, #fields do
    if type(fields[n]) ~= 'string' then return nil end
  end
  return fields
end

local function promote(row, score)
  local number, letter = string.match(row, '^(%d+)([hnl])')
  local fields = number and #number >= 12 and #number <= 15 and unpacked(row)
  if not fields then return bury(row) end
  local id
  for n = 1, #fields, 2 do
    if fields[n] == 'i' then id = fields[n + 1] end
  end
  if not id then
    id = string.format('d%.0f-%.0f', score, number)
    fields[#fields + 1] = 'i'
    fields[#fields + 1] = id
  end
  redis.call('HSET', index, id, letter .. redis.call('XADD', streams[letter], '*', unpack(fields)))
  ring(doorbell, ready, bell, streams[letter])
end

local due = redis.call(
  'ZRANGE', schedule, '-inf', stamp, 'BYSCORE', 'LIMIT', 0, limit, 'WITHSCORES')
local moved = #due / 2
for n = 1, #due, 2 do promote(due[n], due[n + 1]) end
if moved > 0 then redis.call('ZREMRANGEBYRANK', schedule, 0, moved - 1) end
local head = redis.call('ZRANGE', schedule, 0, 0, 'WITHSCORES')
return {moved, tonumber(head[2]) or -1, time[1] * 1000000 + time[2]}
