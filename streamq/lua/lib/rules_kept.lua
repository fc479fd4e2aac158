-- rules_kept(text): return what the key `rules`, as it was read, keeps of a type's policy: {gate, lane, unique, held}; {} if
-- streamq did not write it. A release that does not know these fields removes them from the policy when it registers the type; they stay
-- here. `held` has the same fields, of the rules that are not in force yet (see register); nil if there are none.
local function rules_of(told)
  local found = {}
  for _, name in ipairs({'gate', 'unique'}) do
    if type(told[name]) == 'string' then found[name] = told[name] end
  end
  if found.gate and type(told.lane) == 'string' then found.lane = told.lane end
  return found
end

local function rules_kept(text)
  local good, told = pcall(cjson.decode, type(text) == 'string' and text or '')
  if not good or type(told) ~= 'table' then return {} end
  local kept = rules_of(told)
  local held = type(told.held) == 'table' and rules_of(told.held) or {}
  if next(held) then kept.held = held end
  return kept
end
