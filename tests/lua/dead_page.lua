#!lua flags=no-writes,allow-stale
-- dead_page: a page of dead letters, newest first.
-- KEYS dead letters
-- ARGV start limit
-- Returns {{local id, died_ms, reason, letter of the priority, {stored fields...}}...}
local first = tonumber(ARGV[1])
local page = {}

-- A letter that is none of ours is shown as the bytes it is.
local function opened(packed)
  local good, letter = pcall(cmsgpack.unpack, packed)
  good = good and type(letter) == 'table' and type(letter[4]) == 'table'
  for n = 1, 3 do good = good and type(letter[n]) == 'string' end
  good = good and string.match(letter[3], '^%d+$') and #letter[3] < 16
  for _, field in ipairs(good and letter[4] or {}) do good = good and type(field) == 'string' end
  return good and letter or {'damaged', 'n', '0', {'raw', packed}}
end

for _, id in ipairs(redis.call('ZRANGE', KEYS[1], first, first + tonumber(ARGV[2]) - 1, 'REV')) do
  local packed = redis.call('HGET', KEYS[2], id)
  if packed then
    local letter = opened(packed)
    page[#page + 1] = {id, letter[3], letter[1], letter[2], letter[4]}
  end
end
return page
