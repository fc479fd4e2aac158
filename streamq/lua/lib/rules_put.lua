-- rules_put(kept): write what is kept of a type's policy (see rules_kept), or remove it if that is nothing.
-- KEYS rules
local function rules_put(kept)
  if kept.held and not next(kept.held) then kept.held = nil end
  if next(kept) then
    redis.call('SET', rules, cjson.encode(kept))
  elseif redis.call('EXISTS', rules) == 1 then
    redis.call('DEL', rules)
  end
end
