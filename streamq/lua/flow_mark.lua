#!lua flags=allow-oom
-- flow_mark: cancel a flow, fail it by a node that cannot run, or let one that has failed or was cancelled go on.
--
-- A retry lets all nodes wait again that did not complete, but for failures that were none of the flow's, and those of `again`,
-- which may be of a flow that has completed. The children that these have by what others returned are made anew: the old ones
-- keep their numbers, and are skipped for ever. Of a flow that is stuck it tries the failed undo task again. Twice is nothing.
-- USES clock flow_open note
-- KEYS flow flow_states flows inbox
-- ARGV flow_id what node action about again...
-- Returns the flow's state before, '' if there is none; `what` is cancel, drop (to cancel without undo), fail or retry
if not flow_open() then return '' end
local before = f.state

local function soon() redis.call('ZADD', flows, string.format('%.0f', (clock())), flow_id) end

local gone, grown, letters, lost = {}, {}, {}, {}
local WAITS, SKIPPED, CHUNK = string.byte('w'), string.byte('s'), 200

-- The bytes of a text, and the text of bytes: much quicker than letter by letter.
local function bytes_of(text)
  local found = {}
  for from = 1, #text, CHUNK do
    for n, byte in ipairs({string.byte(text, from, from + CHUNK - 1)}) do found[from + n - 1] = byte end
  end
  return found
end

local function text_of(bytes, length)
  local parts = {}
  for from = 1, length, CHUNK do
    parts[#parts + 1] = string.char(unpack(bytes, from, math.min(from + CHUNK - 1, length)))
  end
  return table.concat(parts)
end

for n in string.gmatch(f.grown or '', '%d+') do grown[tonumber(n)] = true end

-- Forget the children that a node has by what a handler returned, theirs as well.
local function forget(n)
  local map, made = f_maps[n], grown[n]
  grown[n] = nil
  if not map then return end
  if made or redis.call('HEXISTS', flow, 's' .. n) == 1 then f_maps[n], gone[map] = nil, true end
  for child = map.first, map.first + map.count - 1 do
    if f_maps[child] or grown[child] then forget(child) end
  end
end

-- The letters of a map's children after a retry.
local function of_children(map, again)
  local part = string.sub(f_states, map.first + 1, map.first + map.count)
  if gone[map] then return string.rep('s', map.count) end
  if again[map.number] then return string.rep('w', map.count) end
  local root = map
  while flow_map_of(root.number) do root = flow_map_of(root.number) end
  if lost[root.number] then return part end
  if flow_at(map.number) == 'c' then return part end  -- their failures were none of the flow's
  return (string.gsub(part, '[sdxe]', 'w'))
end

local function wait_again(again)
  local static, last = tonumber(redis.call('HGET', flow, 'static')) or 0, f.on_failure
  local kept = {}
  for n in string.gmatch(redis.call('HGET', flow, 'tolerant') or '', '%d+') do kept[tonumber(n)] = true end
  -- What has lost a race that is decided stays as it is.
  for n in string.gmatch(redis.call('HGET', flow, 'races') or '', '%d+') do
    local told = not again[tonumber(n)] and flow_at(tonumber(n)) == 'c' and flow_node(tonumber(n)) or {}
    local won = told.x and redis.call('HGET', flow, 'won' .. n)
    for m, alone in ipairs(told.x or {}) do
      for _, loser in ipairs(tostring(told.a[m]) ~= won and alone or {}) do lost[loser] = not again[loser] or nil end
    end
  end
  local declared = string.sub(f_states, 1, static)
  letters = bytes_of((string.gsub(declared, '[sdxe]', 'w')))
  for n in pairs(kept) do
    if FAILED[flow_at(n)] then letters[n + 1] = string.byte(flow_at(n)) end
  end
  for n in pairs(lost) do letters[n + 1] = string.byte(flow_at(n)) end
  for n in pairs(again) do
    letters[n + 1] = WAITS
    forget(n)
  end
  if last then letters[last + 1] = WAITS end
  for undo in string.gmatch(redis.call('HGET', flow, 'undos') or '', ':(%d+)') do letters[undo + 1] = SKIPPED end
  declared = text_of(letters, #declared)
  local parts, at, maps, order = {declared}, static, '', {}
  for _, map in ipairs(f_order) do
    parts[#parts + 1] = string.sub(f_states, at + 1, map.first)
    parts[#parts + 1] = of_children(map, again)
    at = map.first + map.count
    if not gone[map] then
      maps, order[#order + 1] = maps .. string.format(' %d:%d:%d', map.number, map.first, map.count), map
    end
  end
  parts[#parts + 1] = string.sub(f_states, at + 1)
  f_states, f_whole, f_order = table.concat(parts), true, order
  local todo, done, names = {}, {}, {}
  for n in string.gmatch(f.grown or '', '%d+') do
    if grown[tonumber(n)] then names[#names + 1] = n end
  end
  f.grown = #names > 0 and ' ' .. table.concat(names, ' ') .. ' ' or ''
  for at_ in string.gmatch(declared, '()w') do todo[#todo + 1] = at_ - 1 end
  for n in string.gmatch(f.order or '', '%d+') do
    if not again[tonumber(n)] then done[#done + 1] = ' ' .. n end
  end
  f.todo, f.order = table.concat(todo, ' '), table.concat(done)
  redis.call('HSET', flow, 'maps', maps, 'grown', f.grown)
end

local function count_again()
  for _, name in ipairs(COUNTS) do f[name] = 0 end
  for letter in pairs(BOOK) do
    local _, number = string.gsub(f_states, letter, '')
    flow_count(letter, number)
  end
end

if (what == 'cancel' or what == 'drop') and (before == 'running' or before == 'failing') then
  f.state, f.undo = 'cancelling', what == 'drop' and '0' or '1'
  flow_skip(true)
  soon()
elseif what == 'fail' and before == 'running' then
  flow_put(tonumber(node), 'd')
  flow_fail(node)
elseif what == 'retry' and before == 'stuck' then
  local failed = flow_undo_of(flow_undo_last())
  if not failed then return before end
  if FAILED[flow_at(failed)] then flow_put(failed, 's') end
  f.state, f.stuck, f.generation = 'undoing', '0', f.generation + 1
  redis.call('HDEL', flow, 'ended')
  soon()
elseif what == 'retry' and (before == 'failed' or before == 'cancelled' or before == 'completed' and #ARGV >= first_arg) then
  local again = {}
  for n = first_arg, #ARGV do again[tonumber(ARGV[n])] = true end
  wait_again(again)
  count_again()
  f.state, f.cause, f.generation, f.undo = 'running', '', f.generation + 1, '1'
  redis.call('HDEL', flow, 'ended', 'why')
  soon()  -- its keys get the lifetime of one that runs
else
  return before
end
flow_close()
note(1)
return before
