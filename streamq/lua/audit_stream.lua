#!lua flags=no-writes,allow-stale
-- audit_stream: walk a piece of one stream; tell which entries want a closer look (audit_place).
--
-- Reads a few entries at a time, the fewer the longer they are, and ends the step when it has read
-- `bytes`: a payload may be of any size.
-- KEYS stream index letters
-- ARGV group letter cursor limit bytes
-- Returns {the id to go on from, or '' at the end, checked, {place...}}
local limit, bytes = tonumber(limit), tonumber(bytes)
local indexed, buried = redis.call('EXISTS', index) == 1, redis.call('EXISTS', letters) == 1

local function halves(id)
  local ms, n = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(n)
end

local last_ms, last_n = -1, -1
local groups = redis.pcall('XINFO', 'GROUPS', stream)
for _, row in ipairs(groups.err and {} or groups) do
  local about = {}
  for n = 1, #row, 2 do about[row[n]] = row[n + 1] end
  if about.name == group then last_ms, last_n = halves(about['last-delivered-id']) end
end

local function delivered(entry)
  local ms, n = halves(entry)
  if ms < last_ms or (ms == last_ms and n <= last_n) then return true end
  last_ms = -1  -- neither is any entry after this one
  return false
end

local read = 0
local function suspicious(entry, fields)
  local id, place = nil, letter .. entry
  for n = 1, #fields, 2 do
    read = read + #fields[n + 1]
    if fields[n] == 'i' then id = fields[n + 1] end
  end
  if id and redis.call('HGET', index, id) ~= place then return true end
  if not id and indexed and redis.call('HEXISTS', index, place) == 1 then return true end
  if buried and redis.call('HEXISTS', letters, id or place) == 1 then return true end
  if last_ms < 0 or not delivered(entry) then return false end
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
