#!lua flags=no-writes,allow-stale
-- page_group: a page of the dead letters of one group of errors, newest first.
-- KEYS groups letters
-- ARGV fingerprint after limit
-- Returns {where to go on or '', {{local id, letter, died_ms, {fields, payload cut...}, reason, fingerprint}...}}
local fingerprint, limit, rows, cursor = ARGV[1], tonumber(ARGV[3]), {}, ''
-- A row for people: long payloads are cut, and the page ends early where it becomes heavy.
local budget = 262144
local function shortened(fields)
  local out, size = {}, 0
  for n = 1, #fields - 1, 2 do
    local name, value = fields[n], fields[n + 1]
    out[#out + 1] = name
    if name == 'p' then
      out[#out + 1] = string.sub(value, 1, 600)
      out[#out + 1] = 'size'
      out[#out + 1] = tostring(#value)
    else
      out[#out + 1] = value
    end
    size = size + math.min(#value, name == 'p' and 600 or #value)
  end
  budget = budget - size
  return out
end
-- A letter that is none of ours has nothing that could be shown here.
local function opened(packed)
  local good, letter = pcall(cmsgpack.unpack, packed)
  good = good and type(letter) == 'table' and type(letter[4]) == 'table'
  good = good and type(letter[1]) == 'string' and type(letter[2]) == 'string'
  for _, field in ipairs(good and letter[4] or {}) do good = good and type(field) == 'string' end
  return good and letter or {'damaged', 'n', '0', {}}
end
local high = ARGV[2] == '' and '(' .. fingerprint .. '!' or '(' .. ARGV[2]
local found = redis.call('ZRANGE', KEYS[1], high, '[' .. fingerprint .. ' ', 'BYLEX', 'REV', 'LIMIT', 0, limit)
for _, member in ipairs(found) do
  local died, id = string.match(member, '^[^ ]* (%d+) (.+)$')
  if id and #died < 16 then  -- what is no member of ours names no letter
    local packed = redis.call('HGET', KEYS[2], id)
    local letter = packed and opened(packed) or {'', 'n', died, {}}
    rows[#rows + 1] = {id, letter[2], died, shortened(letter[4]), letter[1], fingerprint}
  end
  cursor = member
  if budget <= 0 then break end
end
return {(#found >= limit or budget <= 0) and cursor or '', rows}
