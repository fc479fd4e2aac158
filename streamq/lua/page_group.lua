#!lua flags=no-writes,allow-stale
-- page_group: a page of the dead letters of one error group, newest first.
-- USES opened shortened
-- KEYS groups letters
-- ARGV fingerprint after limit
-- Returns {next cursor or '', {{local id, letter, died_ms, {fields, payload truncated...}, reason,
-- fingerprint}...}}
local limit, rows, cursor = tonumber(limit), {}, ''
local high = after == '' and '(' .. fingerprint .. '!' or '(' .. after
local found = redis.call('ZRANGE', groups, high, '[' .. fingerprint .. ' ', 'BYLEX', 'REV', 'LIMIT', 0, limit)
for _, member in ipairs(found) do
  local died, id = string.match(member, '^[^ ]* (%d+) (.+)$')
  if id and #died < 16 then  -- a member that streamq did not write names no letter
    local packed = redis.call('HGET', letters, id)
    local letter = packed and opened(packed) or {'', 'n', died, {}}
    rows[#rows + 1] = {id, letter[2], died, shortened(letter[4], 600), letter[1], fingerprint}
  end
  cursor = member
  if budget <= 0 then break end
end
return {(#found >= limit or budget <= 0) and cursor or '', rows}
