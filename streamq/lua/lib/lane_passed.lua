-- lane_passed(counting, place): whether a count of what lanes hold has been at a place: it walks the streams from their
-- first entries to their last, then the schedule. What is added to a stream behind it is not seen any more.
-- counting_of(text): the state of a count, as the policy has it in `counting`: {stamp, letter, cursor}; nil for none.
-- `letter` is that of the stream, d for the schedule, c for the lanes whose counts are compared.
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
