-- rules_kept(text): what `rules` has of a type's lanes: {gate, lane}; {} if that is none of ours. A release that does
-- not know lanes takes these fields out of the policy when it registers the type; here they stay.
local function rules_kept(text)
  local good, kept = pcall(cjson.decode, text or '')
  if not good or type(kept) ~= 'table' or type(kept.gate) ~= 'string' then return {} end
  return {gate = kept.gate, lane = type(kept.lane) == 'string' and kept.lane or nil}
end
