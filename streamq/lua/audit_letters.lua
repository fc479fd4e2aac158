#!lua flags=no-writes,allow-stale
-- audit_letters: walk one step through the stored dead letters; return those to check with audit_dead.
-- USES letter_in
-- KEYS dead letters
-- ARGV cursor limit bytes
-- Returns {the cursor to continue from, or '' at the end, checked, {local id...}}
local limit, bytes = tonumber(limit), tonumber(bytes)
-- Reads a few letters at a time, the fewer the longer they are: see audit_stream.
local checked, ids, read, chunk = 0, {}, 0, 1
repeat
  local before, found = read, redis.call('HSCAN', letters, cursor, 'COUNT', chunk)
  cursor = found[1]
  for n = 1, #found[2], 2 do
    if not letter_in(found[2][n + 1]) or not redis.call('ZSCORE', dead, found[2][n]) then ids[#ids + 1] = found[2][n] end
    read = read + #found[2][n + 1]
    checked = checked + 1
  end
  if read - before < 16384 then chunk = math.min(16, chunk * 2) end
until cursor == '0' or checked >= limit or read >= bytes
return {cursor == '0' and '' or cursor, checked, ids}
