-- holders_of(shape): part the numbers of completions of tasks with claims from the shape of a settlement. Returns the shape
-- without them, and the numbers: {h, n, l, s, all = their sum}.
-- holders_lanes(first, number): read the records of the lanes that they hold together. Returns the lanes, by the position of
-- the claims.
-- USES lane_gate lane_row
local function holders_of(shape_)
  local rest, h, n, l, s = string.match(shape_, '^([^;]*);(%d+),(%d+),(%d+),(%d+)$')
  if not rest then return shape_, {all = 0} end
  local holding = {h = tonumber(h), n = tonumber(n), l = tonumber(l), s = tonumber(s)}
  holding.all = holding.h + holding.n + holding.l + holding.s
  return rest, holding
end

local function holders_lanes(first, number)
  local found, names = {}, {}
  for m = first + number + 1, first + 3 * number - 1, 2 do
    local lane, _, kind = lane_alone(ARGV[m])
    if kind == 'l' then found[m], names[#names + 1] = lane, lane end
  end
  if #names > 0 then lane_gate().fetch(names) end
  return found
end
