-- lane_count(most): what each lane holds, counted from the entries of the streams and the rows of the schedule that
-- kept a slot; nil and their number where there are more than `most`.
-- USES field lane_row row_fields
-- KEYS schedule slots high normal low suspect
local function lane_count(most)
  local size, held = redis.call('ZCARD', schedule), {}
  for _, stream in ipairs({high, normal, low, suspect}) do size = size + redis.call('XLEN', stream) end
  if size > most then return nil, size end

  local function count(fields)
    local lane, _, kind = lane_of(field(fields, 'c'))
    if kind == 'l' then held[lane] = (held[lane] or 0) + 1 end
  end
  for _, stream in ipairs({high, normal, low, suspect}) do
    for _, entry in ipairs(redis.call('XRANGE', stream, '-', '+')) do count(entry[2]) end
  end
  for _, row in ipairs(redis.call('ZRANGE', schedule, 0, -1)) do count(row_fields(row) or {}) end
  return held
end

-- lane_differences(held, written): the lanes of which `written(lane)` says something else, as {lane, written, counted}.
local function lane_differences(held, written)
  local kept, found, seen = redis.call('HGETALL', slots), {}, {}
  local function compare(lane)
    seen[lane] = true
    local says, there = written(lane), held[lane] or 0
    if says ~= there then found[#found + 1] = {lane, says, there} end
  end
  for n = 1, #kept, 2 do
    if kept[n] ~= '' then compare(kept[n]) end
  end
  for lane in pairs(held) do
    if not seen[lane] then compare(lane) end
  end
  return found
end
