-- changed(fields, changes): the fields with some replaced or added, or dropped if the new value is false.
local function changed(fields, changes)
  local out = {}
  for n = 1, #fields, 2 do
    if changes[fields[n]] == nil then
      out[#out + 1] = fields[n]
      out[#out + 1] = fields[n + 1]
    end
  end
  for name, value in pairs(changes) do
    if value then
      out[#out + 1] = name
      out[#out + 1] = value
    end
  end
  return out
end
