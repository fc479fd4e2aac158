#!lua flags=no-writes,allow-stale
-- audit_stream: walk one step through a stream; return the entries to check with audit_place.
--
-- Reads a few entries at a time, the fewer the longer they are, and ends the step after reading `bytes`: a
-- payload may be of any size.
-- USES group_of later field unlocked
-- KEYS stream index letters
-- ARGV group letter cursor limit bytes
-- Returns {the id to continue from, or '' at the end, checked, {place...}}
local limit, bytes = tonumber(limit), tonumber(bytes)
local indexed, buried = redis.call('EXISTS', index) == 1, redis.call('EXISTS', letters) == 1

local about = group_of(stream)
local last = about and about['last-delivered-id']

local function delivered(entry)
  if last and later(entry, last) then last = nil end  -- no entry after this one was delivered either
  return last
end

local read = 0
local function suspicious(entry, fields)
  local id, place = field(fields, 'i'), letter .. entry
  for n = 2, #fields, 2 do read = read + #fields[n] end
  if id and redis.call('HGET', index, id) ~= place then return true end
  if not id and indexed and redis.call('HEXISTS', index, place) == 1 then return true end
  if buried and redis.call('HEXISTS', letters, id or place) == 1 then return true end
  if unlocked(fields, id or place) then return true end
  if not delivered(entry) then return false end
  return #redis.call('XPENDING', stream, group, entry, entry, 1) == 0
end

local checked, places, chunk, got = 0, {}, 1, 1
while checked < limit and read < bytes and got > 0 do
  local before = read
  local entries = redis.call('XRANGE', stream, cursor, '+', 'COUNT', chunk)
  got = #entries == chunk and chunk or 0
  for _, entry in ipairs(entries) do
    if suspicious(entry[1], entry[2]) then places[#places + 1] = letter .. entry[1] end
    cursor = '(' .. entry[1]
  end
  checked = checked + #entries
  if read - before < 16384 then chunk = math.min(16, chunk * 2) end
end
return {got > 0 and cursor or '', checked, places}
