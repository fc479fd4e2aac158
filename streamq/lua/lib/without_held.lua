-- without_held(kept, joins, fields): remove from a new task what only the held rules of its type ask for (see register): its
-- lane, its lock, and that its worker must know these.
-- USES field rules_kept
local function needless(fields, feature)
  for n = 1, #fields, 2 do
    if fields[n] == 'N' then
      local rest = {}
      for name in string.gmatch(fields[n + 1], '[^,]+') do
        if name ~= feature then rest[#rest + 1] = name end
      end
      fields[n + 1] = table.concat(rest, ',')
      if #rest == 0 then
        table.remove(fields, n)
        table.remove(fields, n)
      end
      return
    end
  end
end

local function without_held(kept, joins, fields)
  local held = kept.held or {}
  if held.gate and joins.lane then
    joins.lane, joins.cost = nil, nil
    needless(fields, 'lanes')
  end
  if held.unique and type(joins.unique) == 'table' then
    joins.unique = nil
    needless(fields, 'unique')
  end
end
