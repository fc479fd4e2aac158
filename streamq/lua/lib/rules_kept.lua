-- rules_kept(text): return the rules of a type's lanes that the key `rules` keeps: {gate, lane}; {} if streamq did not write
-- it. A release that does not know lanes removes these fields from the policy when it registers the type; they stay here.
local function rules_kept(text)
  local good, kept = pcall(cjson.decode, text or '')
  if not good or type(kept) ~= 'table' or type(kept.gate) ~= 'string' then return {} end
  return {gate = kept.gate, lane = type(kept.lane) == 'string' and kept.lane or nil}
end
