-- level(key, most): set the score of at most so many rows of a sorted set to 0; return how many had another one.
-- Redis keeps rows in the order of their bytes only if all scores are equal: one that another program changed hides
-- others. A key of the wrong type has none.
-- level_lanes(lanes, policy, most): the same for parked tasks; then all lanes are looked at again (`sweep`).
local function level(key, most)
  local changed = 0
  for _, range in ipairs({{'-inf', '(0'}, {'(0', '+inf'}}) do
    local rows = redis.pcall('ZRANGE', key, range[1], range[2], 'BYSCORE', 'LIMIT', 0, math.max(0, most - changed))
    for _, row in ipairs(rows.err and {} or rows) do
      redis.call('ZADD', key, 0, row)
      changed = changed + 1
    end
  end
  return changed
end

local function level_lanes(lanes, policy, most)
  local changed = level(lanes, most)
  if changed > 0 then redis.pcall('HSET', policy, 'sweep', '') end
  return changed
end
