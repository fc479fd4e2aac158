#!lua flags=no-writes,allow-stale
-- audit_letters: walk a piece of the stored dead letters; tell which want a closer look (audit_dead).
-- KEYS dead letters
-- ARGV cursor limit bytes
-- Returns {the cursor to go on from, or '' at the end, checked, {local id...}}
local cursor, limit, bytes = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local checked, ids, read = 0, {}, 0
repeat
  local found = redis.call('HSCAN', KEYS[2], cursor, 'COUNT', 10)
  cursor = found[1]
  for n = 1, #found[2], 2 do
    local good, letter = pcall(cmsgpack.unpack, found[2][n + 1])
    local sound = good and type(letter) == 'table' and type(letter[4]) == 'table'
    if not sound or not redis.call('ZSCORE', KEYS[1], found[2][n]) then ids[#ids + 1] = found[2][n] end
    read = read + #found[2][n + 1]
    checked = checked + 1
  end
until cursor == '0' or checked >= limit or read >= bytes
return {cursor == '0' and '' or cursor, checked, ids}
