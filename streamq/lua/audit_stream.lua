#!lua flags=no-writes,allow-stale
-- audit_stream: check a piece of one stream against its group and the index.
-- KEYS stream index
-- ARGV group letter cursor limit
-- Returns {the id to go on from, or '' at the end, checked, moved tasks seen, {problem, entry...}}
local stream, group, letter, limit = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[4])
local last
local groups = redis.pcall('XINFO', 'GROUPS', stream)
for _, row in ipairs(groups.err and {} or groups) do
  local about = {}
  for n = 1, #row, 2 do about[row[n]] = row[n + 1] end
  if about.name == group then last = about['last-delivered-id'] end
end

local problems, moved = {}, 0
local function problem(name, entry)
  problems[#problems + 1] = name
  problems[#problems + 1] = letter .. entry
end

local function halves(id) return tonumber(string.match(id, '^%d+')), tonumber(string.match(id, '%d+$')) end
local function behind(id)
  local ms, n = halves(id)
  local last_ms, last_n = halves(last)
  return ms < last_ms or (ms == last_ms and n <= last_n)
end

local entries = redis.call('XRANGE', stream, ARGV[3], '+', 'COUNT', limit)
for _, entry in ipairs(entries) do
  local id
  for n = 1, #entry[2], 2 do
    if entry[2][n] == 'i' then id = entry[2][n + 1] end
  end
  if id then
    moved = moved + 1
    if redis.call('HGET', KEYS[2], id) ~= letter .. entry[1] then problem('not where the index says', entry[1]) end
  elseif redis.call('HEXISTS', KEYS[2], letter .. entry[1]) == 1 then
    problem('in the index but never moved', entry[1])
  end
  if last and behind(entry[1]) and #redis.call('XPENDING', stream, group, entry[1], entry[1], 1) == 0 then
    problem('delivered to nobody', entry[1])
  end
end
if #entries < limit then return {'', #entries, moved, problems} end
return {'(' .. entries[#entries][1], #entries, moved, problems}
