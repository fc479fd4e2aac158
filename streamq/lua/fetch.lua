#!lua flags=allow-oom
-- fetch: deliver at most `budget` ready tasks to one consumer, tier by tier, shared fairly within each tier.
--
-- XREADGROUP's COUNT applies to each stream, so a plain read of several could return a multiple of it.
-- `tiers` is the number of streams in each tier, such as "30,10,10"; the first tier holds returned tasks and
-- suspects. The streams of another tier share what is left of the budget: each gets an equal part, and what
-- one does not use goes to the others. `limits` is the maximum to take from each stream. Of suspects (field
-- `l`) at most one is taken, and none if `alone` is 1: the worker already has one. A stream without its group
-- ends the walk; what was taken before is returned. A key that is not a stream is skipped, and reported only
-- if nothing else was found. With `rings` the streams are from `ready`, and are removed from it when they are
-- empty: see `muster`.
-- USES clock field group_of
-- KEYS ready bell streams...
-- ARGV group consumer budget alone rings tiers limits...
-- Returns {now_ms, {{number of the stream, entries}...}}
local now, time = clock()
local left, suspect_taken = tonumber(budget), alone == '1'
local taken, order, empty, wrong, failed = {}, {}, {}, nil, nil

local function stream_at(n) return KEYS[first_key + n - 1] end

local function fault(n, reply)
  local stream = stream_at(n)
  if string.find(reply.err, 'WRONGTYPE', 1, true) then
    empty[n] = true
    wrong = redis.error_reply('WRONGTYPE ' .. stream .. ' is no stream: somebody overwrote it; DEL it')
  else
    failed = reply
  end
end

-- Take at most `count` entries of the n-th stream. Returns how many were taken, and the last of them.
local function take(n, count)
  local reply = redis.pcall('XREADGROUP', 'GROUP', group, consumer, 'COUNT', count, 'STREAMS', stream_at(n), '>')
  empty[n] = not reply or not reply.err and (not reply[1] or #reply[1][2] < count)
  if reply and reply.err then fault(n, reply) end
  if not reply or reply.err or not reply[1] then return 0 end
  local entries = reply[1][2]
  left = left - #entries
  if not taken[n] then
    taken[n] = entries
    order[#order + 1] = n
  else
    for _, entry in ipairs(entries) do table.insert(taken[n], entry) end
  end
  return #entries, entries[#entries]
end

local function limit_of(n) return tonumber(ARGV[first_arg + n - 1]) - (taken[n] and #taken[n] or 0) end

local function suspected(entry) return field(entry[2], 'l') ~= nil end

local function suspect_next(stream)
  local about = group_of(stream)
  local entry = about and redis.call('XRANGE', stream, '(' .. about['last-delivered-id'], '+', 'COUNT', 1)[1]
  return entry and suspected(entry)
end

-- One by one: the next may be the second suspect.
local function take_returned(n)
  local length = redis.pcall('XLEN', stream_at(n))
  if type(length) == 'table' then return fault(n, length) end
  empty[n] = length == 0
  while length > 0 and left > 0 and limit_of(n) > 0 and not (suspect_taken and suspect_next(stream_at(n))) do
    local got, last = take(n, 1)
    if got == 0 then return end
    suspect_taken = suspect_taken or suspected(last)
  end
end

-- In each round every stream gets an equal part; those that used theirs up are read again while some is left.
local function share(streams)
  while #streams > 0 and left > 0 and not failed do
    local part, again = math.max(1, math.floor(left / #streams)), {}
    for _, n in ipairs(streams) do
      local count = math.min(left, part, limit_of(n))
      if count > 0 and not failed and take(n, count) == count then again[#again + 1] = n end
    end
    streams = again
  end
end

local first, tier = 1, 0
for size in string.gmatch(tiers, '%d+') do
  local streams = {}
  for n = first, first + tonumber(size) - 1 do streams[#streams + 1] = n end
  first, tier = first + tonumber(size), tier + 1
  if tier > 1 then
    share(streams)
  else
    for _, n in ipairs(streams) do
      if not failed then take_returned(n) end
    end
  end
end

-- A served stream goes to the end of those that wait; the one that gave most comes last. Even if `ready` or
-- `bell` is faulty, the entries that were taken are returned.
local function after(n)
  local stream, got = stream_at(n), taken[n] and #taken[n] or 0
  if got > 0 and not empty[n] then
    empty[n] = #redis.call('XRANGE', stream, '(' .. taken[n][got][1], '+', 'COUNT', 1) == 0
  end
  if empty[n] then
    redis.pcall('ZREM', ready, stream)
    redis.pcall('ZREM', bell, stream)
    return
  end
  local score = string.format('%.3f', time[1] * 1000 + time[2] / 1000 + got / 1000)
  if got > 0 then
    redis.pcall('ZADD', ready, score, stream)
  else
    redis.pcall('ZADD', ready, 'NX', score, stream)
  end
  redis.pcall('ZADD', bell, 'NX', score, stream)
end

if rings == '1' and not failed then
  for n = 1, #KEYS - first_key + 1 do after(n) end
end
if failed and #order == 0 then return failed end
if wrong and #order == 0 then return wrong end
local found = {}
for m, n in ipairs(order) do found[m] = {n, taken[n]} end
return {now, found}
