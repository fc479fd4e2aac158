#!lua flags=allow-oom
-- repair: append again those entries before the group's last delivered id that no consumer holds.
--
-- Such entries result from a stray XACK or a deleted consumer; no read would ever return them.
-- USES group_of identified lane_ghost ring
-- KEYS stream index counters
-- ARGV group letter cursor limit
-- Returns {the id to continue from, or '' when the round is complete, repaired}
local limit = tonumber(limit)
local about = group_of(stream)
if not about then return {'', 0} end

local repaired = 0
local entries = redis.call('XRANGE', stream, cursor, about['last-delivered-id'], 'COUNT', limit)
for _, entry in ipairs(entries) do
  local fields = entry[2]
  -- No task has so many fields, and Lua could not append it: the audit reports it.
  local ours = #fields <= 1000
  if ours and #redis.call('XPENDING', stream, group, entry[1], entry[1], 1) == 0 then
    local id = identified(fields, letter .. entry[1])
    if field(fields, 'c') then lane_ghost() end
    for n = 1, #fields, 2 do  -- in an ordered lane it gets a new fence: somebody may run it still
      if fields[n] == 'g' then fields[n + 1] = string.format('%.0f', redis.call('HINCRBY', counters, 'sequence', 1)) end
    end
    redis.call('HSET', index, id, letter .. redis.call('XADD', stream, '*', unpack(fields)))
    redis.call('XDEL', stream, entry[1])
    repaired = repaired + 1
  end
end
if repaired > 0 then
  ring(stream)
  redis.call('HINCRBY', counters, 'repaired', repaired)
end
if #entries < limit then return {'', repaired} end
return {'(' .. entries[#entries][1], repaired}
