-- lane_passed(counting, place): return whether a recount has passed a place. It walks the streams from their first entries
-- to their last, then the schedule, and does not see what is added behind it.
-- counting_of(text): return the state of a recount, from the policy's field `counting`: {stamp, letter, cursor}; nil if none
-- is under way. `letter` is the stream's, d for the schedule, c while the counts of the lanes are compared.
-- USES later
local WALKED = {s = 1, h = 2, n = 3, l = 4, d = 5, c = 6}

local function counting_of(text)
  local stamp, letter, cursor = string.match(text or '', '^(%d+) ([shnldc])(.*)$')
  return stamp and {stamp = stamp, letter = letter, cursor = cursor} or nil
end

local function lane_passed(counting, place)
  local letter, entry = string.sub(place, 1, 1), string.sub(place, 2)
  local mine, now = WALKED[letter], WALKED[counting.letter]
  if not mine or mine ~= now then return mine ~= nil and mine < now end
  local found = string.match(entry, '^%d+%-%d+$') and string.match(counting.cursor, '^%d+%-%d+$')
  return found ~= nil and not later(entry, counting.cursor)
end
