-- row_fields(row): the fields stored in a row of the schedule; nil if it cannot be unpacked.
local function row_fields(row)
  local good, fields = pcall(cmsgpack.unpack, string.sub(row, (string.find(row, '%D') or #row) + 1))
  return good and type(fields) == 'table' and fields or nil
end
