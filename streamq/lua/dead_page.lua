#!lua flags=no-writes,allow-stale
-- dead_page: a page of dead letters, newest first.
-- KEYS dead letters
-- ARGV start limit
-- Returns {{local id, died_ms, reason, letter of the priority, {stored fields...}}...}
local first = tonumber(ARGV[1])
local page = {}
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], first, first + tonumber(ARGV[2]) - 1, 'REV')) do
  local packed = redis.call('HGET', KEYS[2], id)
  if packed then
    local letter = cmsgpack.unpack(packed)
    page[#page + 1] = {id, letter[3], letter[1], letter[2], letter[4]}
  end
end
return page
