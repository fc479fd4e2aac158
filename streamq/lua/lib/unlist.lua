-- unlist(id, letter): remove a dead letter; `letter` is nil if it cannot be read. Returns 1 if it was listed.
-- KEYS dead letters groups
local function unlist(id, letter)
  -- A letter that streamq did not write is in no group.
  if letter and type(letter[3]) == 'string' and type(letter[5]) == 'string' then
    redis.call('ZREM', groups, letter[5] .. ' ' .. letter[3] .. ' ' .. id)
  end
  redis.call('HDEL', letters, id)
  return redis.call('ZREM', dead, id)
end
