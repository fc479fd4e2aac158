-- identified(fields, id): the id of a task that moves. One that has none in its fields takes this one along.
-- USES field
local function identified(fields, id)
  local own = field(fields, 'i')
  if own then return own end
  fields[#fields + 1] = 'i'
  fields[#fields + 1] = id
  return id
end
