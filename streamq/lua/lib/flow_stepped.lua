-- flow_stepped(from): take rows, the arguments from this one on, out of the inbox, and let those who may run become tasks, if
-- they are of this type and page. Returns as `flow_advance`, without those that were released.
-- USES flow_take flow_run
-- KEYS flow flow_states flow_items flows inbox types dead letters groups counters index schedule expiring gone high normal low
-- ARGV flow_id task_type map first wake page
local MOST_RUN = 100  -- of one call; its caller releases the others
local function flow_stepped(from)
  redis.call('SADD', types, task_type)  -- first: it is an error if the key is no set
  flow_take(from)
  local found, mine = {flow_reply(), 0}, {}
  flow_ready(function(n, of_type, of, cut)
    if #mine < MOST_RUN and of_type == task_type and not of and not cut and string.format('%d', math.floor(n / PAGE)) == page then
      mine[#mine + 1] = n
    else
      found[#found + 1] = {n, of_type, of or '', cut or 'n'}
    end
  end)
  if #mine > 0 then
    local run, finish = flow_run(f.generation)
    for _, n in ipairs(mine) do
      if run(n) then flow_put(n, 'r') else found[#found + 1] = {n, task_type, '', 'n'} end
    end
    finish()
  end
  flow_close()
  if f.todo ~= '' or f.ready > #found - 2 then found[2] = 1 end
  for n in string.gmatch(f.losing or '', '%d+') do
    if #found < LOOKS + 102 then found[#found + 1] = {tonumber(n), '', '', 'x'} end
  end
  return found
end
