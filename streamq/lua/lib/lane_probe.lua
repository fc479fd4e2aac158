-- lane_probe(look): look at the kinds of the keys that the gate writes; the answer is the first that is not nil.
-- KEYS lanes turns ripe slots limits index dead letters groups
local function lane_probe(look)
  for key, kind in pairs({
    [lanes] = 'sorted set', [turns] = 'sorted set', [ripe] = 'sorted set', [slots] = 'hash', [limits] = 'hash',
    [index] = 'hash', [dead] = 'sorted set', [letters] = 'hash', [groups] = 'sorted set'})
  do
    local told = kind == 'hash' and redis.pcall('HEXISTS', key, '') or redis.pcall('ZCARD', key)
    local bad = look(key, kind, told)
    if bad then return bad end
  end
end
