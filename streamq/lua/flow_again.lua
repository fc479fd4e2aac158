#!lua flags=allow-oom
-- flow_again: let nodes of a flow that is over wait again as planned, a page in each call; with the last the flow runs.
--
-- The plan comes with the first call and is kept in the record until the last, so that anybody goes on with a retry whose caller
-- has died; until then the flow is over as before. A letter for each node: n waits again unless it has completed; t if it was
-- skipped; a in any case, but who completed by hand after its map was undone (`late`); s is skipped for ever; k stays. The rest
-- is what the record is to say then: the maps that are left, the nodes that have children, all nodes without a task, and the
-- completed nodes that may have to be undone, where `seen` bytes of these were known.
-- USES clock flow_open note
-- KEYS flow flow_states flows inbox
-- ARGV flow_id most action about generation plan maps_left grown_left controls_left order_left seen
-- Returns {the flow's state before, '' if there is none, how many nodes are left to look at; -1 if nothing is planned}
if not flow_open() then return {'', -1} end
local before = f.state
local fields = {'again', 'again_of', 'again_maps', 'again_grown', 'again_order', 'again_todo', 'again_controls'}
local kept = redis.call('HMGET', flow, unpack(fields))
for n = 3, #fields do kept[n] = kept[n] or '' end
local of, at, order_seen = string.match(kept[2] or '', '^(%d+) (%d+) (%d+)$')
local begun = kept[1] and OVER[before] and tonumber(of) == f.generation
if not begun then
  if kept[1] then redis.call('HDEL', flow, unpack(fields)) end  -- another release has done it meanwhile
  if plan == '' or not OVER[before] or tonumber(generation) ~= f.generation then return {before, -1} end
  at, order_seen, kept = 0, seen, {plan, '', maps_left, grown_left, order_left, '', controls_left}
  redis.call(
    'HSET', flow, 'again', plan, 'again_maps', maps_left, 'again_grown', grown_left, 'again_order', order_left, 'again_controls',
    controls_left)
  note(1)
end

-- What becomes of a letter that is not kept, by the plan's.
local THEN = {
  n = {s = 'w', d = 'w', x = 'w', e = 'w'}, t = {s = 'w'}, k = {},
  a = {s = 'w', d = 'w', x = 'w', e = 'w', c = 'w', r = 'w', q = 'w'},
  s = {w = 's', d = 's', x = 's', e = 's', c = 's', r = 's', q = 's'}}
local from = tonumber(at)
local to = math.min(from + tonumber(most), #kept[1])
local letters, todo, static = {}, {}, tonumber(redis.call('HGET', flow, 'static')) or 0
local changes, n, late = {}, from, {}
for number in string.gmatch(redis.call('HGET', flow, 'late') or '', '%d+') do late[tonumber(number)] = true end
for planned, letter in string.gmatch(string.sub(kept[1], from + 1, to), '(.)()') do
  local now = string.sub(f_states, from + letter - 1, from + letter - 1)
  local after = not (late[n] and planned == 'a') and (THEN[planned] or THEN.k)[now] or nil
  if after then
    changes[now], changes[after] = (changes[now] or 0) - 1, (changes[after] or 0) + 1
  end
  letters[#letters + 1] = after or now
  if (after or now) == 'w' and n < static then todo[#todo + 1] = n end
  n = n + 1
end
for letter, by in pairs(changes) do flow_count(letter, by) end
local page = table.concat(letters)
f_states = string.sub(f_states, 1, from) .. page .. string.sub(f_states, from + #page + 1)
if #page > 0 then redis.call('SETRANGE', flow_states, from, page) end
local looks = kept[6] .. (#todo > 0 and ' ' .. table.concat(todo, ' ') or '')
redis.call('ZADD', flows, string.format('%.0f', (clock())), flow_id)  -- a daemon looks after it
if to < #kept[1] then
  redis.call('HSET', flow, 'again_of', string.format('%.0f %.0f %.0f', f.generation, to, order_seen), 'again_todo', looks)
  flow_close()
  return {before, #kept[1] - to}
end
redis.call('HDEL', flow, 'ended', 'why', 'late', unpack(fields))
redis.call('HSET', flow, 'maps', kept[3], 'grown', kept[4], 'controls', kept[7])
f.order = kept[5] .. string.sub(f.order or '', tonumber(order_seen) + 1)
f.grown, f.controls, f.todo = kept[4], kept[7], string.sub(looks, 2)
f.state, f.cause, f.generation, f.undo = 'running', '', f.generation + 1, '1'
flow_close()
return {before, 0}
