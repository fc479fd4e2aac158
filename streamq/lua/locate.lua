#!lua flags=no-writes,allow-stale
-- locate: where a task is now, and what is stored about it.
-- USES clock lane_row lane_why letter_in scheduled shown streams
-- KEYS results schedule index dead letters gone cancels
-- ARGV group id
-- Returns {now_ms, state, {name, value...}, {stored fields...}, result or false}
local now = clock()

local function delivery(letter, entry)
  local found = redis.pcall('XRANGE', streams[letter], entry, entry)
  found = not found.err and found[1]  -- the index may hold something that is not an entry id
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
local due, number = scheduled(place)
if due then
  local row = row_of(due, number)
  if row then
    local fields = row_fields(row)
    local about = {'stream', string.match(row, '%D') or '', 'due_ms', due}
    return {now, 'scheduled', about, fields and all_text(fields) and fields or {}, false}
  end
elseif string.sub(place, 1, 1) == 'k' then
  local row = row_at(place)
  if row then
    local about = {'stream', row.letter, 'lane', row.lane, 'why', lane_why(row)}
    return {now, 'parked', about, row_packed(row) or {}, false}
  end
elseif streams[string.sub(place, 1, 1)] then
  local found = delivery(string.sub(place, 1, 1), string.sub(place, 2))
  if found then return found end
end
local packed = redis.call('HGET', letters, id)
if packed then
  local letter = shown(packed)
  return {now, 'dead', {'reason', letter[1], 'stream', letter[2], 'died_ms', letter[3]}, letter[4], false}
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
