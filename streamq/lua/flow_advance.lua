#!lua flags=allow-oom
-- flow_advance: take what has ended of a flow's nodes out of the inbox, and find who may run now.
--
-- A row counts if it is in the inbox, and leaves it in the same step: so twice is nothing. Who may run is noted (q) and is
-- released by `flow_release`; until that is done for all, the row `<flow> look` stays in the inbox.
-- USES flow_open
-- KEYS flow flow_states flows inbox
-- ARGV flow_id rows...
-- Returns {state ('' if there is no such flow), whether there is more to look at, {number, type, map or '', 'n'/'m'/'g'}...}; a
-- row is <number> <how>. m: a map whose list is still to be cut; g: a node whose children are
if not flow_open() then
  for n = first_arg, #ARGV do redis.call('ZREM', inbox, flow_id .. ' ' .. ARGV[n]) end
  redis.call('ZREM', inbox, flow_id .. ' look')
  return {'', 0}
end
if #ARGV >= first_arg then
  local rows = {}
  for n = first_arg, #ARGV do rows[#rows + 1] = flow_id .. ' ' .. ARGV[n] end
  local there = redis.call('ZMSCORE', inbox, unpack(rows))
  redis.call('ZREM', inbox, unpack(rows))
  for n = first_arg, #ARGV do
    local number, how = string.match(ARGV[n], '^(%d+) ([cdxeg])$')
    if number and there[n - first_arg + 1] then flow_ended(tonumber(number), how) end
  end
end
flow_look_on()
local state = flow_close()

local ready, at = {state, f.todo ~= '' and 1 or 0}, 1
while f.ready > 0 and #ready < LOOKS + 2 do
  at = string.find(f_states, 'q', at, true)
  if not at then break end
  local n, map = at - 1, flow_map_of(at - 1)
  local type_, kind = flow_task_type(n, map)  -- one that cannot be read has no type: its caller fails it
  if flow_has_grown(n) then kind = 'g' end
  ready[#ready + 1] = {n, type_, map and map.number or '', kind}
  at = at + 1
end
return ready
