#!lua flags=allow-oom
-- repair: append anew what lies behind the group's last delivered entry and is held by nobody.
--
-- Such entries come from a stray XACK or a deleted consumer; no read would ever find them.
-- USES ring
-- KEYS stream index counters doorbell ready bell
-- ARGV group letter cursor limit
-- Returns {the id to go on from, or '' when the round is complete, repaired}
local limit = tonumber(limit)
local last
local groups = redis.pcall('XINFO', 'GROUPS', stream)
if groups.err then return {'', 0} end
for _, row in ipairs(groups) do
  local about = {}
  for n = 1, #row, 2 do about[row[n]] = row[n + 1] end
  if about.name == group then last = about['last-delivered-id'] end
end
if not last then return {'', 0} end

local repaired = 0
local entries = redis.call('XRANGE', stream, cursor, last, 'COUNT', limit)
for _, entry in ipairs(entries) do
  local fields, id = entry[2], nil
  -- Nobody's task has so many fields, and Lua could not append it: the audit tells of it.
  local ours = #fields <= 1000
  if ours and #redis.call('XPENDING', stream, group, entry[1], entry[1], 1) == 0 then
    for n = 1, #fields, 2 do
      if fields[n] == 'i' then id = fields[n + 1] end
    end
    if not id then
      id = letter .. entry[1]
      fields[#fields + 1] = 'i'
      fields[#fields + 1] = id
    end
    redis.call('HSET', index, id, letter .. redis.call('XADD', stream, '*', unpack(fields)))
    redis.call('XDEL', stream, entry[1])
    repaired = repaired + 1
  end
end
if repaired > 0 then
  ring(doorbell, ready, bell, stream)
  redis.call('HINCRBY', counters, 'repaired', repaired)
end
if #entries < limit then return {'', repaired} end
return {'(' .. entries[#entries][1], repaired}
