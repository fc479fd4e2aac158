#!lua flags=no-writes,allow-stale
-- audit_dead: check single dead letters: each must be listed, stored and readable.
-- USES letter_in
-- KEYS dead letters
-- ARGV ids...
-- Returns {problem, id...}
local problems = {}

local function fault(id)
  local listed, packed = redis.call('ZSCORE', dead, id), redis.call('HGET', letters, id)
  if not packed then return listed and 'missing_letter' end
  local letter = letter_in(packed)
  if not letter then return 'unreadable_letter' end
  if listed then return nil end
  -- The time of death is its score in the list: without it the letter cannot be listed again.
  local dated = type(letter[3]) == 'string' and #letter[3] < 16 and string.match(letter[3], '^%d+$')
  return dated and 'unlisted_letter' or 'unreadable_letter'
end

for _, id in ipairs(ARGV) do
  local name = fault(id)
  if name then
    problems[#problems + 1] = name
    problems[#problems + 1] = id
  end
end
return problems
