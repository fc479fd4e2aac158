#!lua flags=no-writes,allow-stale
-- page_group: a page of the dead letters of one error group, newest first.
-- USES in_order opened shortened
-- KEYS groups letters
-- ARGV fingerprint after limit
-- Returns {next cursor or '', {{local id, letter, died_ms, {fields, payload truncated...}, reason,
-- fingerprint}...}}
local limit, rows, cursor = tonumber(limit), {}, ''
local high = after == '' and '(' .. fingerprint .. '!' or '(' .. after
local found = redis.call('ZRANGE', groups, high, '[' .. fingerprint .. ' ', 'BYLEX', 'REV', 'LIMIT', 0, limit)
for _, member in ipairs(found) do
  -- A member with a score stands where it does not belong: see `level`.
  if cursor ~= '' and not in_order(member, cursor) then break end
  if string.sub(member, 1, #fingerprint + 1) ~= fingerprint .. ' ' then break end
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
