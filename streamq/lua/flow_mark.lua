#!lua flags=allow-oom
-- flow_mark: cancel a flow, fail it by a node that cannot run, or let one that has failed or was cancelled go on.
--
-- A retry lets all nodes wait again that did not complete, but for failures that were none of the flow's. Twice is nothing.
-- USES clock flow_open note
-- KEYS flow flow_states flows inbox
-- ARGV flow_id what node action about
-- Returns the flow's state before, '' if there is none; `what` is cancel, fail or retry
if not flow_open() then return '' end
local before = f.state
if what == 'cancel' and (before == 'running' or before == 'failing') then
  f.state = 'cancelling'
  flow_skip(true)
  redis.call('ZADD', flows, string.format('%.0f', (clock())), flow_id)
elseif what == 'fail' and before == 'running' then
  flow_put(tonumber(node), 'd')
  flow_fail(node)
elseif what == 'retry' and (before == 'failed' or before == 'cancelled') then
  local static = tonumber(redis.call('HGET', flow, 'static')) or 0
  local kept = {}
  for n in string.gmatch(redis.call('HGET', flow, 'tolerant') or '', '%d+') do kept[tonumber(n)] = flow_at(tonumber(n)) end
  f_states = string.gsub(f_states, '[sdxe]', 'w')
  f_whole = true
  for _, name in ipairs({'waiting', 'released', 'done', 'skipped', 'failed', 'ready'}) do f[name] = 0 end
  for letter in pairs(BOOK) do
    local _, number = string.gsub(f_states, letter, '')
    flow_count(letter, number)
  end
  for n, letter in pairs(kept) do
    if FAILED[letter] then flow_put(n, letter) end
  end
  local todo = {}
  for n = 0, static - 1 do
    if flow_at(n) == 'w' then todo[#todo + 1] = n end
  end
  f.state, f.cause, f.generation, f.todo = 'running', '', f.generation + 1, table.concat(todo, ' ')
  redis.call('HDEL', flow, 'ended')
  redis.call('ZADD', flows, string.format('%.0f', (clock())), flow_id)  -- its keys get the lifetime of one that runs
else
  return before
end
flow_close()
note(1)
return before
