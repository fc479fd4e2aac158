#!lua flags=no-writes,allow-stale
-- locate: where a task is now, and what is stored of it.
-- USES row_of
-- KEYS results schedule index dead letters gone cancels high normal low suspect
-- ARGV group id
-- Returns {now_ms, state, {name, value...}, {stored fields...}, result or false}
local streams = {h = high, n = normal, l = low, s = suspect}
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function texts(fields)
  if type(fields) ~= 'table' then return {} end
  for _, field in ipairs(fields) do
    if type(field) ~= 'string' then return {} end
  end
  return fields
end

-- A letter that is none of ours is shown as the bytes it is.
local function opened(packed)
  local good, letter = pcall(cmsgpack.unpack, packed)
  good = good and type(letter) == 'table' and type(letter[4]) == 'table'
  for n = 1, 3 do good = good and type(letter[n]) == 'string' end
  good = good and string.match(letter[3], '^%d+$') and #letter[3] < 16
  for _, field in ipairs(good and letter[4] or {}) do good = good and type(field) == 'string' end
  if good then return unpack(letter, 1, 4) end
  return 'damaged', 'n', '0', {'raw', packed}
end

local function in_stream(letter, entry)
  local found = redis.pcall('XRANGE', streams[letter], entry, entry)
  found = not found.err and found[1]  -- what the index says may be no entry's id
  if not found then return nil end
  local held = redis.pcall('XPENDING', streams[letter], group, entry, entry, 1)
  if held.err or #held == 0 then return {now, 'ready', {'stream', letter, 'entry', entry}, found[2], false} end
  local cancelling = redis.call('HEXISTS', cancels, id) == 1 and 'yes' or 'no'
  local about = {
    'stream', letter, 'entry', entry, 'worker', held[1][2], 'lease_idle_ms', tostring(held[1][3]),
    'cancel_requested', cancelling}
  return {now, 'running', about, found[2], false}
end

local place = redis.call('HGET', index, id) or id
local due, number = string.match(place, '^d(%d+)-(%d+)$')
if due then
  local row = row_of(schedule, due, tonumber(number))
  if row then
    local good, fields = pcall(cmsgpack.unpack, string.sub(row, (string.find(row, '%D') or #row) + 1))
    return {now, 'scheduled', {'stream', string.match(row, '%D') or '', 'due_ms', due}, texts(good and fields), false}
  end
elseif streams[string.sub(place, 1, 1)] then
  local found = in_stream(string.sub(place, 1, 1), string.sub(place, 2))
  if found then return found end
end
local packed = redis.call('HGET', letters, id)
if packed then
  local reason, priority, died, fields = opened(packed)
  return {now, 'dead', {'reason', reason, 'stream', priority, 'died_ms', died}, fields, false}
end
local result = redis.call('HGET', results, id)
if result then return {now, 'completed', {}, {}, result} end
local cancelled = redis.call('ZSCORE', gone, 'x' .. id)
if cancelled then return {now, 'cancelled', {'ended_ms', cancelled}, {}, false} end
local expired = redis.call('ZSCORE', gone, 'e' .. id)
if expired then return {now, 'expired', {'ended_ms', expired}, {}, false} end
local completed = redis.call('ZSCORE', gone, 'c' .. id)
if completed then return {now, 'completed', {'ended_ms', completed}, {}, false} end
return {now, 'unknown', {}, {}, false}
