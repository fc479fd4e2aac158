-- opened(packed): a stored dead letter (see letter_in). One that streamq cannot have written has the reason
-- `damaged` and no other content.
-- USES letter_in
local function opened(packed)
  local letter = letter_in(packed)
  local good = letter and type(letter[1]) == 'string' and type(letter[2]) == 'string' and all_text(letter[4])
  good = good and #letter[4] % 2 == 0 and type(letter[5] or '') == 'string'
  return good and letter or {'damaged', 'n', '0', {}, ''}
end
