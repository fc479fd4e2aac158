-- lane_entered(letter, fields, id): let the task of a dead letter ask its lane under its number; return its id, nil if it
-- has no lane.
-- lane_opened(id, letter): resume the ordered lane that a dead letter had halted, after the letter was removed.
-- lane_kept(fields, from): return the fields with the lane, the number and the cost of a dead letter's task.
-- USES lane_gate lane_row lane_tell
local function lane_opened(id, letter)
  local lane = letter and lane_of(field(letter[4], 'c'))
  if lane then lane_gate().open(lane, id) end
end

local function lane_entered(letter, fields, id)
  local lane, number = lane_of(field(fields, 'c'))
  if not lane then return nil end
  local entered = lane_gate().arrive(lane, field(fields, 'w'), letter, fields, id, number)
  return entered
end

local function lane_kept(fields, from)
  local lane, number = lane_of(field(from, 'c'))
  if not lane then return fields end
  for _, name in ipairs({'w', 'N'}) do
    local value = field(from, name)
    if value then
      fields[#fields + 1] = name
      fields[#fields + 1] = value
    end
  end
  return laned(fields, 'L', number, lane)
end
