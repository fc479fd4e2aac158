#!lua flags=allow-oom
-- promote: move at most `limit` due tasks from the schedule to their streams.
--
-- A row is a number of 12 to 15 digits, the letter of the priority and the packed fields. Rows are moved in the
-- order of due time, then number. A row that cannot be unpacked becomes a dead letter with its bytes.
-- USES clock dead_letter identified letter_in ring row_fields
-- KEYS schedule index counters high normal low
-- ARGV limit
-- Returns {moved, when the next one is due in ms or -1, now in us}
local streams = {h = high, n = normal, l = low}
local now, time = clock()
local stamp = string.format('%.0f', now)

local function bury(row)
  dead_letter(new_id(stamp), {'undecodable', 'n', stamp, {'raw', row}, 'undecodable'})
  redis.call('HINCRBY', counters, 'dead', 1)
end

local function unpacked(row)
  local fields = row_fields(row)
  if not fields or #fields == 0 or #fields % 2 == 1 then return nil end
  if #fields > 1000 then return nil end  -- Lua could not append it
  return all_text(fields) and fields or nil
end

local function promote(row, score)
  local number, letter = string.match(row, '^(%d+)([hnl])')
  local fields = number and #number >= 12 and #number <= 15 and unpacked(row)
  if not fields then return bury(row) end
  local id = identified(fields, string.format('d%.0f-%.0f', score, number))
  --rich if lane_promote(letter, fields, id) then return end
  redis.call('HSET', index, id, letter .. redis.call('XADD', streams[letter], '*', unpack(fields)))
  ring(streams[letter])
end

local due = redis.call(
  'ZRANGE', schedule, '-inf', stamp, 'BYSCORE', 'LIMIT', 0, limit, 'WITHSCORES')
local moved = #due / 2
for n = 1, #due, 2 do promote(due[n], due[n + 1]) end
if moved > 0 then redis.call('ZREMRANGEBYRANK', schedule, 0, moved - 1) end
--rich lane_admit()
local head = redis.call('ZRANGE', schedule, 0, 0, 'WITHSCORES')
--rich head[2] = lane_next(head[2])
return {moved, tonumber(head[2]) or -1, time[1] * 1000000 + time[2]}
