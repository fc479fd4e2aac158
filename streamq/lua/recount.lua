#!lua flags=allow-oom
-- recount: count anew what each lane holds: the entries of the four streams, and rows of the schedule that kept a slot.
--
-- Needed only where an entry was deleted behind our back, or settled by what does not know of lanes. One script,
-- so it is exact; of a type with more than `most` entries and rows nothing is counted.
-- USES field lane_gate lane_row lane_tell row_fields
-- KEYS schedule policy slots high normal low suspect
-- ARGV write most task_type wake
-- Returns {lane, held as written, held as counted...}, of lanes where these differ; or {'large', entries}. `write` 1: the
-- counts are corrected
local size = redis.call('ZCARD', schedule)
for _, stream in ipairs({high, normal, low, suspect}) do size = size + redis.call('XLEN', stream) end
if size > tonumber(most) then return {'large', size} end

local held = {}
local function count(fields)
  local lane, _, kind = lane_of(field(fields, 'c'))
  if kind == 'l' then held[lane] = (held[lane] or 0) + 1 end
end
for _, stream in ipairs({high, normal, low, suspect}) do
  for _, entry in ipairs(redis.call('XRANGE', stream, '-', '+')) do count(entry[2]) end
end
for _, row in ipairs(redis.call('ZRANGE', schedule, 0, -1)) do count(row_fields(row) or {}) end

local wrong = {}
local function compare(lane)
  local r, counted = lane_gate().record(lane), held[lane] or 0
  local written = r.held
  held[lane] = nil
  if written == counted then return end
  for _, part in ipairs({lane, string.format('%.0f', written), string.format('%.0f', counted)}) do
    wrong[#wrong + 1] = part
  end
  if write == '1' then
    r.held = counted
    lane_gate().touch(lane)
  end
end
local kept, missing = redis.call('HGETALL', slots), {}
for n = 1, #kept, 2 do
  if kept[n] ~= '' then compare(kept[n]) end
end
for lane in pairs(held) do missing[#missing + 1] = lane end
for _, lane in ipairs(missing) do compare(lane) end
if write == '1' then
  redis.call('HDEL', policy, 'recount')
  gate_close()
end
return wrong
