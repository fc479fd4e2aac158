#!lua flags=no-writes,allow-stale
-- audit_pending: check that what is pending in a stream's group is still in the stream.
-- KEYS stream
-- ARGV group letter cursor limit
-- Returns {the id to go on from, or '' at the end, checked, {problem, entry...}}
local pending = redis.pcall('XPENDING', KEYS[1], ARGV[1], ARGV[3], '+', ARGV[4])
if pending.err then return {'', 0, {}} end
local problems = {}
for _, row in ipairs(pending) do
  if #redis.call('XRANGE', KEYS[1], row[1], row[1]) == 0 then
    problems[#problems + 1] = 'pending but deleted'
    problems[#problems + 1] = ARGV[2] .. row[1]
  end
end
if #pending < tonumber(ARGV[4]) then return {'', #pending, problems} end
return {'(' .. pending[#pending][1], #pending, problems}
