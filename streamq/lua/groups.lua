#!lua flags=allow-oom
-- groups: create missing streams and consumer groups, reading from the first entry.
-- KEYS streams...
-- ARGV group
-- Returns how many were created
local created, failed = 0, nil
for _, stream in ipairs(KEYS) do
  local reply = redis.pcall('XGROUP', 'CREATE', stream, group, '0', 'MKSTREAM')
  if not reply.err then
    created = created + 1
  elseif not string.find(reply.err, 'BUSYGROUP', 1, true) then
    failed = failed or redis.error_reply(reply.err .. ' (' .. stream .. ')')
  end
end
if failed and created == 0 then return failed end
return created
