#!lua flags=allow-oom
-- requeue: put dead letters back into their streams with fresh attempts, oldest first or by id.
--
-- Only what died until `until_ms` is taken, so that a task which dies again at once is not met twice
-- by the caller that asks for everything. The history of errors stays with the task.
-- KEYS dead letters counters index high normal low
-- ARGV limit until_ms ids...
-- Returns {requeued, dead letters until then that are left}
local dead, letters, counters, index = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local streams = {h = KEYS[5], n = KEYS[6], l = KEYS[7]}
local dropped = {a = true, l = true, q = true, x = true}

local ids = {}
for n = 3, #ARGV do ids[#ids + 1] = ARGV[n] end
if #ids == 0 then
  ids = redis.call('ZRANGE', dead, '-inf', ARGV[2], 'BYSCORE', 'LIMIT', 0, ARGV[1])
end

-- What is no letter of ours cannot be a task again: it stays.
local function opened(packed)
  local good, letter = pcall(cmsgpack.unpack, packed)
  if not good or type(letter) ~= 'table' or type(letter[4]) ~= 'table' then return nil end
  local fields = letter[4]
  for _, field in ipairs(fields) do good = good and type(field) == 'string' end
  return good and #fields > 0 and #fields % 2 == 0 and #fields <= 1000 and letter or nil
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

local requeued = 0
for _, id in ipairs(ids) do
  local packed = redis.call('HGET', letters, id)
  local letter = packed and opened(packed)
  if letter then
    local mark = streams[letter[2]] and letter[2] or 'n'
    local entry = redis.call('XADD', streams[mark], '*', unpack(revived(id, letter[4])))
    redis.call('HSET', index, id, mark .. entry)
    redis.call('ZREM', dead, id)
    redis.call('HDEL', letters, id)
    requeued = requeued + 1
  end
end
if requeued > 0 then redis.call('HINCRBY', counters, 'requeued', requeued) end
return {requeued, redis.call('ZCOUNT', dead, '-inf', ARGV[2])}
