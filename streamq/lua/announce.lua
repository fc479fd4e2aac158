#!lua flags=allow-oom
-- announce: register an app, with the number of shards that its tasks are spread over.
--
-- The record is JSON. `shards`: the number given by the program that announced itself last (`lead`). `known`:
-- how many shards may still hold something; it is raised here at once, and lowered by the daemon, one by one,
-- when the last shard is empty and closed. `epoch`: distinguishes a producer that asks for more shards (it
-- does not lead) from a daemon that closed one without knowing of it. `past`: earlier values of `shards`.
-- USES clock
-- KEYS apps
-- ARGV app shards lead floor control news
-- Returns the record
local mine, lead = tonumber(shards), lead == '1'
local now = clock()

local raw = redis.call('HGET', apps, app)
local good, record = pcall(cjson.decode, raw or '')
local found = good and type(record) == 'table' and type(record.shards) == 'number'
if not found then record = {shards = mine, known = mine} end
local known = math.max(tonumber(record.known) or 0, record.shards)
record.past = type(record.past) == 'table' and record.past or {}
record.epoch = tonumber(record.epoch) or 0

local changed = not found or mine > known
record.known = math.max(known, mine)
if lead and record.shards ~= mine then
  changed = true
  record.past[tostring(record.shards)] = now
  record.past[tostring(mine)] = nil
  record.shards = mine
  local oldest, numbers = nil, 0
  for number, moment in pairs(record.past) do
    numbers = numbers + 1
    if not oldest or moment < record.past[oldest] then oldest = number end
  end
  if numbers > 8 then record.past[oldest] = nil end
end
if not lead then
  changed = true
  record.epoch = math.max(record.epoch, tonumber(floor)) + 1
end
if not changed then return raw end
raw = cjson.encode(record)
redis.call('HSET', apps, app, raw)
if not found or mine > known then
  redis.call('PUBLISH', control, 'shards')
  redis.call('PUBLISH', news, 'look')
end
return raw
