-- opened(packed): a stored dead letter {reason, letter, died_ms, {fields...}, fingerprint}. One that streamq
-- cannot have written has the reason `damaged` and nothing else that could be shown.
local function opened(packed)
  local good, letter = pcall(cmsgpack.unpack, packed)
  good = good and type(letter) == 'table' and type(letter[4]) == 'table'
  good = good and type(letter[1]) == 'string' and type(letter[2]) == 'string'
  for _, field in ipairs(good and letter[4] or {}) do good = good and type(field) == 'string' end
  good = good and #letter[4] % 2 == 0 and type(letter[5] or '') == 'string'
  return good and letter or {'damaged', 'n', '0', {}, ''}
end
