#!lua flags=no-writes,allow-stale
-- rights: which of these commands this user may not send. None of them is executed.
--
-- A command is its words separated by spaces. On a server that cannot check, none is refused. A command that
-- the server does not have is marked with a `?` in front: it is renamed or disabled.
-- KEYS key
-- ARGV commands...
-- Returns the refused commands
local refused, check = {}, redis.acl_check_cmd
for _, command in ipairs(check and ARGV or {}) do
  local words = {}
  for word in string.gmatch(command, '%S+') do words[#words + 1] = word end
  local known, allowed = pcall(check, unpack(words))
  if not (known and allowed) then refused[#refused + 1] = (known and '' or '?') .. command end
end
return refused
