#!lua flags=allow-oom
-- flow_release: let nodes of a flow that may run become tasks, of one type, from one page of the flow's items.
-- USES flow_run
-- KEYS flow flow_states flow_items inbox types dead letters groups counters index schedule expiring gone high normal low
-- ARGV flow_id task_type map first wake numbers...
-- Returns how many were released
local run, finish = flow_run(tonumber(redis.call('HGET', flow, 'generation')) or 0)
local released = 0

-- Nodes that stand side by side are read and written together.
local from = first_arg
while from <= #ARGV do
  local to, first_number = from, tonumber(ARGV[from])
  while to < #ARGV and tonumber(ARGV[to + 1]) == tonumber(ARGV[to]) + 1 do to = to + 1 end
  local states = redis.call('GETRANGE', flow_states, first_number, first_number + to - from)
  local after, number = {}, 0
  for n = 1, #states do
    local state = string.sub(states, n, n)
    if state == 'q' and run(first_number + n - 1) then state, number = 'r', number + 1 end
    after[n] = state
  end
  if number > 0 then
    redis.call('SETRANGE', flow_states, first_number, table.concat(after))
    released = released + number
  end
  from = to + 1
end
if released > 0 then
  redis.call('HINCRBY', flow, 'waiting', -released)
  redis.call('HINCRBY', flow, 'released', released)
  local ready_left = redis.call('HINCRBY', flow, 'ready', -released)
  if ready_left <= 0 and (redis.call('HGET', flow, 'todo') or '') == '' then redis.call('ZREM', inbox, flow_id .. ' look') end
end
finish()
return released
