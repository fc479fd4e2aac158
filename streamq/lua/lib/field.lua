-- field(fields, name): the value of a stored field; nil if there is none, the last if there are several.
local function field(fields, name)
  local found
  for n = 1, #fields, 2 do
    if fields[n] == name then found = fields[n + 1] end
  end
  return found
end
