#!lua flags=allow-oom
-- repair_dead: list a stored dead letter again, or store a letter for one that is only listed.
-- USES dead_letter letter_in
-- KEYS dead letters counters groups
-- ARGV id
-- Returns how many were repaired
local listed, packed = redis.call('ZSCORE', dead, id), redis.call('HGET', letters, id)
if packed and not listed then
  local letter = letter_in(packed)
  if not letter or type(letter[3]) ~= 'string' or #letter[3] > 15 or not string.match(letter[3], '^%d+$') then return 0 end
  redis.call('ZADD', dead, letter[3], id)
  if type(letter[5]) == 'string' then
    redis.call('ZADD', groups, 0, letter[5] .. ' ' .. letter[3] .. ' ' .. id)
  end
elseif listed and not packed then
  -- Its row in `groups` has the fingerprint that was lost with the letter.
  local cursor, looks = '0', 0
  repeat
    local found = redis.call('ZSCAN', groups, cursor, 'MATCH', '* ' .. id, 'COUNT', 500)
    for n = 1, #found[2], 2 do redis.call('ZREM', groups, found[2][n]) end
    cursor, looks = found[1], looks + 1
  until cursor == '0' or looks == 20
  local stamp = string.format('%.0f', listed)
  dead_letter(id, {'vanished', 'n', stamp, {'i', id}, 'vanished'})
else
  return 0
end
redis.call('HINCRBY', counters, 'repaired', 1)
return 1
