#!lua flags=no-writes,allow-stale
-- audit_schedule: check a piece of the schedule against the index.
-- KEYS schedule index
-- ARGV start limit
-- Returns {checked, moved tasks seen, {problem, place...}}
local first, problems, moved = tonumber(ARGV[1]), {}, 0
local rows = redis.call('ZRANGE', KEYS[1], first, first + tonumber(ARGV[2]) - 1, 'WITHSCORES')
for n = 1, #rows, 2 do
  local place = string.format('d%.0f-%d', rows[n + 1], tonumber(string.sub(rows[n], 1, 12)) or 0)
  local good, fields = pcall(cmsgpack.unpack, string.sub(rows[n], 14))
  local id
  if good and type(fields) == 'table' then
    for m = 1, #fields, 2 do
      if fields[m] == 'i' then id = fields[m + 1] end
    end
  else
    problems[#problems + 1] = 'cannot be unpacked'
    problems[#problems + 1] = place
  end
  if id then
    moved = moved + 1
    if redis.call('HGET', KEYS[2], id) ~= place then
      problems[#problems + 1] = 'not where the index says'
      problems[#problems + 1] = place
    end
  end
end
return {#rows / 2, moved, problems}
