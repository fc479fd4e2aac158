-- dead_letter(id, letter): store and list a dead letter {reason, priority letter, died_ms, fields,
-- fingerprint}. The caller counts it.
-- buried(id, letter): the same for a task that ends. Something else may have given two entries the same id: a
-- letter never replaces another. The later one gets an id of its own, and its field `o` names the other.
-- USES changed
-- KEYS dead letters groups counters
local function dead_letter(id, letter)
  redis.call('ZADD', dead, letter[3], id)
  redis.call('HSET', letters, id, cmsgpack.pack(letter))
  redis.call('ZADD', groups, 0, letter[5] .. ' ' .. letter[3] .. ' ' .. id)
end

local function new_id(stamp)
  return string.format('d%s-%.0f', stamp, redis.call('HINCRBY', counters, 'sequence', 1))
end

local function buried(id, letter)
  if redis.call('HEXISTS', letters, id) == 1 then
    local own = new_id(letter[3])
    letter[4] = changed(letter[4], {i = own, o = id})
    id = own
  end
  dead_letter(id, letter)
end
