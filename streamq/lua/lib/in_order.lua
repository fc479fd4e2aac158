-- in_order(one, other): whether the bytes of one sort before those of the other. `<` goes by the server's locale.
-- ascending(rows, after): those of the rows that sort after the one before them. All rows of `lanes` and `groups`
-- have the score 0, so that Redis keeps them in the order of their bytes. A row that another program gave a score
-- stands elsewhere: a walk that went on after it would start again.
local function in_order(one, other)
  for n = 1, math.min(#one, #other) do
    local x, y = string.byte(one, n), string.byte(other, n)
    if x ~= y then return x < y end
  end
  return #one < #other
end

local function ascending(rows, after)
  local kept = {}
  for _, row in ipairs(rows) do
    if in_order(after, row) then
      kept[#kept + 1] = row
      after = row
    end
  end
  return kept
end
