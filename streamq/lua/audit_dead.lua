#!lua flags=no-writes,allow-stale
-- audit_dead: check a piece of the dead letters: each is stored once and nowhere else.
-- KEYS dead letters index
-- ARGV start limit
-- Returns {checked, {problem, id...}}
local first, problems = tonumber(ARGV[1]), {}
local ids = redis.call('ZRANGE', KEYS[1], first, first + tonumber(ARGV[2]) - 1)
for _, id in ipairs(ids) do
  local name
  if redis.call('HEXISTS', KEYS[2], id) == 0 then name = 'dead but its letter is missing' end
  if redis.call('HEXISTS', KEYS[3], id) == 1 then name = 'dead and in the index' end
  if name then
    problems[#problems + 1] = name
    problems[#problems + 1] = id
  end
end
return {#ids, problems}
