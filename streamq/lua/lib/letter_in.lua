-- letter_in(packed): a stored dead letter {reason, letter, died_ms, {fields...}, fingerprint}; nil if
-- unreadable.
-- all_text(fields): whether all are texts.
local function letter_in(packed)
  local good, letter = pcall(cmsgpack.unpack, packed or '')
  return good and type(letter) == 'table' and type(letter[4]) == 'table' and letter or nil
end

local function all_text(fields)
  local good = true
  for _, value in ipairs(fields) do good = good and type(value) == 'string' end
  return good
end
