-- identified(fields, id): the id of a task that moves; if its fields have none, `id` is added to them.
-- USES field
local function identified(fields, id)
  local own = field(fields, 'i')
  if own then return own end
  fields[#fields + 1] = 'i'
  fields[#fields + 1] = id
  return id
end
