-- memo_put(id, name, value): store a memo of a task, in place of the one of that name. Return nil, or the number of memos
-- and of their bytes with this one if that is too much: then nothing was written.
-- USES memo_names
-- KEYS steps
-- ARGV most most_bytes
local function memo_put(id, name, value)
  local at, head, number = id .. '\0' .. name, redis.call('HGET', steps, id) or '0', 0
  local before = redis.call('HGET', steps, at)
  local bytes = (tonumber(string.match(head, '^%d+')) or 0) + #value - #(before or '')
  for _ in memo_names(head) do number = number + 1 end
  if not before and number >= tonumber(most) or bytes > tonumber(most_bytes) then return number, bytes end
  local names = (string.match(head, '%z.*$') or '') .. (before and '' or '\0' .. name)
  redis.call('HSET', steps, id, string.format('%.0f', bytes) .. names, at, value)
end
