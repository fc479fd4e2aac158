-- blob_drop(letter): a dead letter is removed for good: its blob may be removed too (see blob_claim for `blobs`).
-- USES blob_claims clock letter_in
-- KEYS blobs
local function blob_drop(letter)
  local fields = letter and letter[4]
  local sound = type(fields) == 'table' and #fields % 2 == 0 and all_text(fields)
  for name in pairs(sound and blob_claims(fields) or {}) do
    redis.pcall('ZADD', blobs, 'XX', string.format('%.0f', (clock())), name)
  end
end
