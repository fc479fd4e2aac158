-- lane_entered(letter, fields, id): the task of a dead letter asks its lane, under its number; answers its id, or
-- nil where it has none.
-- lane_opened(id, letter): a dead letter was taken away: its ordered lane goes on where that letter shut it.
-- lane_kept(fields, from): the fields with the lane, the number and the cost of a dead letter's task.
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
