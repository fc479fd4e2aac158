-- flow_take(): take the rows among the arguments out of the inbox, and find who may run now and whether the flow has ended.
-- A row counts if it is in the inbox, and leaves it in the same step: so twice is nothing. A row is <number> <how>; that of a
-- timer (t) counts when its time has come; that of a parent (p) says that nobody waits for the flow any more.
-- flow_ready(look): call look(number, type, map or nil, cut) for the first nodes that may run. cut: m for a map whose list is
-- still to be cut, g for a node whose children are, else nil.
-- USES clock flow_open
-- KEYS inbox
-- ARGV flow_id
local function flow_take(from)
  if #ARGV >= from then
    local rows = {}
    for n = from, #ARGV do rows[#rows + 1] = flow_id .. ' ' .. ARGV[n] end
    local there = redis.call('ZMSCORE', inbox, unpack(rows))
    redis.call('ZREM', inbox, unpack(rows))
    local now = clock()
    for n = from, #ARGV do
      local number, how = string.match(ARGV[n], '^(%d+) ([cdxegtp])$')
      local at = number and tonumber(there[n - from + 1])
      if at and how == 'p' then flow_orphaned() end
      if at and how ~= 't' and how ~= 'p' then flow_ended(tonumber(number), how) end
      if at and how == 't' and at <= now then flow_timer(tonumber(number)) end
      if at and how == 't' and at > now and flow_at(tonumber(number)) == 'r' then
        redis.call('ZADD', inbox, string.format('%.0f', at), flow_timer_row(number))
      end
    end
  end
  flow_look_on()
  flow_judge()
end

-- No flow has this id: its rows go.
local function flow_unknown(from)
  for n = from, #ARGV do redis.call('ZREM', inbox, flow_id .. ' ' .. ARGV[n]) end
  redis.call('ZREM', inbox, flow_id .. ' look')
  return {'', 0}
end

local function flow_ready(look)
  flow_merge()
  local at, number = 1, 0
  while f.ready > 0 and number < LOOKS do
    at = string.find(f_states, 'q', at, true)
    if not at then return false end
    local n, of = at - 1, flow_map_of(at - 1)
    local task_type, kind = flow_task_type(n, of)  -- one that cannot be read has no type: its caller fails it
    if flow_has_grown(n) then kind = 'g' end
    look(n, task_type, of and of.number, kind ~= 'n' and kind or nil)
    at, number = at + 1, number + 1
  end
end
