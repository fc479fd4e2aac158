-- shown(packed): a stored dead letter (see letter_in). One that streamq did not write is returned as raw
-- bytes.
-- USES letter_in
local function shown(packed)
  local letter = letter_in(packed)
  local good = letter and all_text(letter[4])
  for n = 1, 3 do good = good and type(letter[n]) == 'string' end
  good = good and string.match(letter[3], '^%d+$') and #letter[3] < 16
  return good and letter or {'damaged', 'n', '0', {'raw', packed}}
end
