#!lua flags=allow-oom
-- flow_grow: a map whose list became known begins, or a node that has children: these, whose arguments are stored, get their
-- numbers. One that has been skipped since then goes on with those that it has.
-- USES flow_open
-- KEYS flow flow_states flows inbox
-- ARGV flow_id map first number most
-- Returns 1, or 0 if that was done before or the flow no longer runs; -1 if other children have these numbers by now
if not flow_open() then return 0 end
local m, from, children = tonumber(map), tonumber(first), tonumber(number)
if f.state ~= 'running' or flow_at(m) ~= 'q' then return 0 end
if not f_maps[m] then
  if #f_states ~= from then return -1 end
  if from + children > tonumber(most) then
    flow_put(m, 'd')
    flow_fail(m, 'a flow has at most ' .. most .. ' nodes')
    flow_close()
    return 0
  end
  f_maps[m] = {number = m, first = from, count = children}
  f_order[#f_order + 1] = f_maps[m]
  redis.call('HINCRBY', flow, 'nodes', children)
  redis.call('HSET', flow, 'maps', (f.maps or '') .. string.format(' %d:%d:%d', m, from, children))
  flow_merge()
  f_states, f.waiting, f_whole = f_states .. string.rep('w', children), f.waiting + children, true
end
flow_open_map(f_maps[m])
flow_look_on()
flow_close()
return 1
