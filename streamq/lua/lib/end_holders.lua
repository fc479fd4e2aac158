-- end_holders(first, told): end the completions of tasks with claims, one stream at a time. Their ids start at the first
-- position, their pairs of local id ('' if it is the place) and claims at the other one. An entry never changes, so the claims
-- that its worker read are the task's. It stands in the body of settle, and uses what is there.
-- USES end_task lane_claim
-- KEYS index
local function end_holder(m, id)
  local lane, claims = lanes_held[m], ARGV[m]
  if lane then lane_released(lane, id, 'c') end
  if noted then return finish(id, 'c', stamp, not lane and claims or nil, kept[id]) end
  if not lane then give_back(claims, id, 'c') end
end

local function end_holders(first, told)
  local unplaced, ended = {}, {}
  for _, letter in ipairs({'h', 'n', 'l', 's'}) do
    local stream, ours = streams[letter], {}
    for m = first, first + holding[letter] - 1 do
      local id = ARGV[told] ~= '' and ARGV[told] or letter .. ARGV[m]
      -- Each by itself: of a batch that is not ours as a whole, nobody could tell which of them are.
      local held = redis.call('XACK', stream, group, ARGV[m]) == 1
      if held then
        ours[#ours + 1], unplaced[#unplaced + 1], ended[id] = ARGV[m], id, true
        end_holder(told + 1, id)
      elseif not ended[id] then
        stale[id] = true
      end
      settled(held)
      told = told + 2
    end
    if #ours > 0 then
      redis.call('XDEL', stream, unpack(ours))
      counted.started = (counted.started or 0) + #ours
      counted.completed = counted.started
    end
    first = first + holding[letter]
  end
  for m = 1, noted and 0 or #unplaced, 1000 do
    redis.call('HDEL', index, unpack(unplaced, m, math.min(m + 999, #unplaced)))
  end
end
