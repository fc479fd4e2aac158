-- unlist(id, letter): take a dead letter away, which is nil where it cannot be read; the answer is 1 where it
-- was listed.
-- KEYS dead letters groups
local function unlist(id, letter)
  -- What is no letter of ours is in no group.
  if letter and type(letter[3]) == 'string' and type(letter[5]) == 'string' then
    redis.call('ZREM', groups, letter[5] .. ' ' .. letter[3] .. ' ' .. id)
  end
  redis.call('HDEL', letters, id)
  return redis.call('ZREM', dead, id)
end
