#!lua flags=no-writes,allow-stale
-- page_group: a page of the dead letters of one group of errors, newest first.
-- USES opened shortened
-- KEYS groups letters
-- ARGV fingerprint after limit
-- Returns {where to go on or '', {{local id, letter, died_ms, {fields, payload cut...}, reason, fingerprint}...}}
local limit, rows, cursor = tonumber(limit), {}, ''
local high = after == '' and '(' .. fingerprint .. '!' or '(' .. after
local found = redis.call('ZRANGE', groups, high, '[' .. fingerprint .. ' ', 'BYLEX', 'REV', 'LIMIT', 0, limit)
for _, member in ipairs(found) do
  local died, id = string.match(member, '^[^ ]* (%d+) (.+)$')
  if id and #died < 16 then  -- what is no member of ours names no letter
    local packed = redis.call('HGET', letters, id)
    local letter = packed and opened(packed) or {'', 'n', died, {}}
    rows[#rows + 1] = {id, letter[2], died, shortened(letter[4], 600), letter[1], fingerprint}
  end
  cursor = member
  if budget <= 0 then break end
end
return {(#found >= limit or budget <= 0) and cursor or '', rows}
