-- group_of(stream): XINFO's details of the stream's group; nil if the group is missing.
-- ARGV group
local function group_of(stream)
  local groups = redis.pcall('XINFO', 'GROUPS', stream)
  for _, row in ipairs(groups.err and {} or groups) do
    local about = {}
    for n = 1, #row, 2 do about[row[n]] = row[n + 1] end
    if about.name == group then return about end
  end
end
