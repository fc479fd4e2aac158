-- lane_probe(look, known): look at the kinds of the keys that the gate writes; the answer is the first that is not nil.
-- known: the caller has looked at those that others write too.
-- KEYS lanes turns ripe slots limits index dead letters groups
local function lane_probe(look, known)
  local kinds = {
    [lanes] = 'sorted set', [turns] = 'sorted set', [ripe] = 'sorted set', [slots] = 'hash', [limits] = 'hash'}
  if not known then
    kinds[index], kinds[dead], kinds[letters], kinds[groups] = 'hash', 'sorted set', 'hash', 'sorted set'
  end
  for key, kind in pairs(kinds) do
    local told = kind == 'hash' and redis.pcall('HEXISTS', key, '') or redis.pcall('ZCARD', key)
    local bad = look(key, kind, told)
    if bad then return bad end
  end
end
