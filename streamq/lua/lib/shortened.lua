-- shortened(fields, most): a task's stored fields for a list, truncated so that a page has bounded size:
-- `most` bytes of the payload and its `size`, the latest of many failures, 300 bytes of each of up to 30
-- other fields. `budget` is what is left of the page's bytes.
local budget = 262144
local function cut(name, value, most)
  if name == 'p' then return string.sub(value, 1, most) end
  if name == 'f' and #value > 16384 then
    -- Anchored: each other start would read the rest again, and a running script cannot be ended.
    local last = string.match(value, '^.*(,{"attempt".*)$') or ''
    return #last > 1 and #last <= 16384 and '[' .. string.sub(last, 2) or ''
  end
  return string.sub(value, 1, name == 'f' and 16384 or 300)
end
local function shortened(fields, most)
  local out = {}
  for n = 1, math.min(#fields, 60) - 1, 2 do
    local name, value = fields[n], fields[n + 1]
    local short = cut(name, value, most)
    out[#out + 1] = string.sub(name, 1, 1000)
    out[#out + 1] = short
    if name == 'p' then
      out[#out + 1] = 'size'
      out[#out + 1] = tostring(#value)
    end
    budget = budget - #short - 50
  end
  return out
end
