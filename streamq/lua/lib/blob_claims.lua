-- blob_claims(fields): the names of the blobs that a task claims (see blob_claim), as a table {name = true}.
-- USES field
local function blob_claims(fields)
  local found, good, claims = {}, pcall(cmsgpack.unpack, fields and field(fields, 'c') or '\144')
  for n = 1, good and type(claims) == 'table' and #claims or 0, 2 do
    if claims[n] == 'b' and type(claims[n + 1]) == 'string' then found[claims[n + 1]] = true end
  end
  return found
end
