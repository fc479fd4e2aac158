#!lua flags=no-writes
-- next_promotion: when the promoter is needed next by each of these types: as a task is due, or time lets a lane go on.
-- USES clock rules_kept
-- KEYS (schedule lanes ripe turns policy rules)...
-- ARGV
-- Returns {now in us, {ms, -1 for never...}, {the sum of 1 where the type has lanes, 2 where what they hold is to be counted
-- anew, and 4 where rules are held, or missing in the policy (see enforce)...}}
local now, time = clock()

-- A key that is no sorted set counts as due: promote will say what is wrong with it.
local function first(key)
  local head = redis.pcall('ZRANGE', key, 0, 0, 'WITHSCORES')
  -- So does a row of somebody else's with a time before all time, which is not "nothing scheduled".
  return head.err and now or head[2] and math.max(0, tonumber(head[2]) or 0) or -1
end

local due, rich = {}, {}
for n, of in ipairs(each) do
  local told = redis.pcall('HMGET', of.policy, 'gate', 'sweep', 'recount', 'counting', 'unique')
  local hash = not told.err
  if not hash then told = {} end
  local there = redis.call('EXISTS', of.rules, of.lanes, of.ripe) > 0
  local kept = there and rules_kept(redis.pcall('GET', of.rules)) or {}
  rich[n] = (told[1] or told[2] or kept.gate or there and redis.call('EXISTS', of.lanes, of.ripe) > 0) and 1 or 0
  -- A registration by an older release takes the gate out of the policy, not `rules`: the count puts it back.
  local lost = hash and not told[1] and kept.gate
  if told[3] or told[4] or lost then rich[n] = 3 end
  local laned = rich[n] > 0
  if kept.held or hash and not told[5] and kept.unique then rich[n] = rich[n] + 4 end
  due[n] = first(of.schedule)
  if laned then
    local turn = told[2] and now or first(of.ripe)
    if turn >= 0 and (due[n] < 0 or turn < due[n]) then due[n] = turn end
    -- A task without a claim takes room of the type, and its end admits nobody: so who waits is looked at.
    if redis.call('EXISTS', of.turns) == 1 and (due[n] < 0 or now + 1000 < due[n]) then due[n] = now + 1000 end
  end
end
return {time[1] * 1000000 + time[2], due, rich}
