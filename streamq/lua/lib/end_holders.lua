-- end_holders(first, told): end the completions of tasks with claims, one stream at a time. Their ids start at the first
-- position, their pairs of local id ('' if it is the place) and claims at the other one. An entry never changes, so the claims
-- that its worker read are the task's. It stands in the body of settle, and uses what is there.
-- USES end_task group_of lane_claim lane_ghost
-- KEYS index
local function end_holder(m, id)
  local lane, claims = lanes_held[m], ARGV[m]
  if lane then lane_released(lane, id, 'c') end
  if noted then return finish(id, 'c', stamp, not lane and claims or nil, kept[id]) end
  if not lane then give_back(claims, id, 'c') end
end

-- Part those that are ours from the others, whose places are returned. One that is gone although we held it is counted anew.
local function parted(stream, letter, entries, acknowledged)
  local lost, ours = {}, #entries
  local done_ = sort_out(stream, entries, acknowledged, lost, letter)
  for _ in pairs(lost) do ours = ours - 1 end
  if acknowledged > ours then lane_ghost() end
  return lost, done_
end

-- Acknowledge and delete the entries of a stream; return the places of those that are not ours.
local function ended(letter, first, number)
  local stream, lost = streams[letter], {}
  local done_ = redis.call('XACK', stream, group, unpack(ARGV, first, first + number - 1))
  if done_ == number then
    redis.call('XDEL', stream, unpack(ARGV, first, first + number - 1))
    reply[#reply + 1] = string.rep('1', number)
  else
    lost, done_ = parted(stream, letter, {unpack(ARGV, first, first + number - 1)}, done_)
  end
  if done_ > 0 then
    counted.started = (counted.started or 0) + done_
    counted.completed = counted.started
  end
  return lost, done_ < number
end

local function end_holders(first, told)
  local unplaced = {}
  for _, letter in ipairs({'h', 'n', 'l', 's'}) do
    local number = holding[letter]
    local lost, some = nil, false
    if number > 0 then lost, some = ended(letter, first, number) end
    for m = first, first + number - 1 do
      local id = ARGV[told] ~= '' and ARGV[told] or letter .. ARGV[m]
      local how = some and lost[letter .. ARGV[m]]
      if how then
        if how ~= 'ended' then stale[id] = true end
      else
        end_holder(told + 1, id)
        unplaced[#unplaced + 1] = id
        if some then lost[letter .. ARGV[m]] = 'ended' end  -- an entry that is named twice is settled once
      end
      told = told + 2
    end
    first = first + number
  end
  for m = 1, noted and 0 or #unplaced, 1000 do
    redis.call('HDEL', index, unpack(unplaced, m, math.min(m + 999, #unplaced)))
  end
end
