#!lua flags=no-writes,allow-stale
-- dead_page: a page of dead letters, newest first.
-- USES shown
-- KEYS dead letters
-- ARGV start limit
-- Returns {{local id, died_ms, reason, letter of the priority, {stored fields...}}...}
local first = tonumber(start)
local page = {}

for _, id in ipairs(redis.call('ZRANGE', dead, first, first + tonumber(limit) - 1, 'REV')) do
  local packed = redis.call('HGET', letters, id)
  if packed then
    local letter = shown(packed)
    page[#page + 1] = {id, letter[3], letter[1], letter[2], letter[4]}
  end
end
return page
