-- flow_open(): read the record of a flow; false where there is none that runs or has run.
-- flow_close(): write the numbers back, and end the flow where nothing is left to do. Returns its state.
--
-- `flow_states` has a letter for each node, by number: w waits, q may run and is to be released, r released, c completed,
-- d dead, x cancelled, e expired, s skipped. The books: nodes = waiting (w, q) + released + done (c, d, x, e) + skipped.
-- In `flow`, n<number> is a node as JSON, {t: type, k: kind, a: the nodes it waits for, c: its failure is no failure of
-- the flow}; d<number> are the nodes that wait for it. A map is a node without a task: its children have numbers of
-- their own (`maps`: map:first:number of children, in the order of their numbers). A node whose handler has returned children is
-- in `grown`, and becomes a map when its task has ended: kt<number> are their types, kc<number> which each is of, and kj<number> is 1 if the
-- last of them joins the others. `todo`
-- are nodes to look at, whether they may run. `order` are the completed nodes that have an undo task (u), as they ended: it is
-- a node that is skipped but where the flow fails or is cancelled, and runs when all else has ended, the last of them first.
-- A map is there with the first of its children that completes (noted:<number> is the generation in which that was), and once
-- more when it completes: the last time counts. `late` are children of maps that completed by hand after their map was undone.
-- A timer, a wait and a race are nodes without a task too. A timer (z: ms) ends by a row in the inbox that is due later; a wait
-- ends by a signal (g), by such a row, or at once by a value that came before (m:<signal>), and its value is v<number>. A race
-- ends with the first of those it waits for (won<number>): x has for each of them the nodes that run for it alone, which are
-- skipped if another has won; of those, tasks that run are in `losing` until they have ended. A flow that runs for a task has
-- that as its `parent`; in<number> are the flows that ran for a node.
-- USES clock
-- KEYS flow flow_states flows inbox
-- ARGV flow_id
local BOOK = {
  w = 'waiting', q = 'waiting', r = 'released', c = 'done', d = 'done', x = 'done', e = 'done', s = 'skipped'}
local FAILED = {d = true, x = true, e = true}
local LOOKS, WINDOW, PAGE = 200, 400, 200
local MOST_GROWN = 1000
local f, f_states, f_new, f_changed, f_written, f_whole, f_nodes, f_maps = {}, '', {}, {}, {}, false, {}, {}
local f_order = {}  -- the maps, by the numbers of their children
local COUNTS = {'waiting', 'released', 'done', 'skipped', 'failed', 'ready'}

local function flow_open()
  local names = {'state', 'on_failure', 'maps', 'todo', 'cause', 'generation', 'controls', 'grown', 'order', 'undo', 'stuck', 'ends',
    'losing', 'parent', unpack(COUNTS)}
  local found = redis.call('HMGET', flow, unpack(names))
  for n, name in ipairs(names) do f[name] = found[n] or nil end
  if not f.state or f.state == 'building' then return false end
  for _, name in ipairs(COUNTS) do f[name] = tonumber(f[name]) or 0 end
  f.on_failure, f.todo, f.generation = tonumber(f.on_failure), f.todo or '', tonumber(f.generation) or 0
  f_states = redis.call('GET', flow_states) or ''
  for number, first, count in string.gmatch(f.maps or '', '(%d+):(%d+):(%d+)') do
    -- More children than there are states would be looked for as long as a damaged record says, and one that is a child of
    -- its own for ever.
    if tonumber(first) + tonumber(count) <= #f_states and tonumber(number) < tonumber(first) then
      f_maps[tonumber(number)] = {number = tonumber(number), first = tonumber(first), count = tonumber(count)}
      f_order[#f_order + 1] = f_maps[tonumber(number)]
    end
  end
  return true
end

local function flow_at(n) return f_new[n] or string.sub(f_states, n + 1, n + 1) end

local function flow_count(letter, by)
  local book = BOOK[letter]
  if book then f[book] = f[book] + by end
  if letter == 'q' then f.ready = f.ready + by end
  if FAILED[letter] then f.failed = f.failed + by end
end

local function flow_put(n, letter)
  flow_count(flow_at(n), -1)
  flow_count(letter, 1)
  if not f_new[n] then f_changed[#f_changed + 1] = n end
  f_new[n] = letter
end

-- Put what was changed into `f_states`; few changes are written one by one, many with the whole at the end.
local function flow_merge()
  if #f_changed == 0 then return f_states end
  if #f_changed > 8 then f_whole = true end
  table.sort(f_changed)
  local parts, at = {}, 1
  for _, n in ipairs(f_changed) do
    parts[#parts + 1] = string.sub(f_states, at, n)
    parts[#parts + 1] = f_new[n]
    at = n + 2
    if not f_whole then f_written[n] = f_new[n] end
  end
  parts[#parts + 1] = string.sub(f_states, at)
  f_states, f_new, f_changed = table.concat(parts), {}, {}
  return f_states
end

local function flow_write()
  flow_merge()
  if f_whole then return redis.call('SET', flow_states, f_states, 'KEEPTTL') end
  for n, letter in pairs(f_written) do redis.call('SETRANGE', flow_states, n, letter) end
end

-- What is known of a node; nil where it cannot be read.
local function flow_node(n)
  if f_nodes[n] == nil then
    local good, told = pcall(cjson.decode, redis.call('HGET', flow, 'n' .. n) or '')
    f_nodes[n] = good and type(told) == 'table' and told or false
  end
  return f_nodes[n] or nil
end

local function flow_map_of(n)
  local low, high = 1, #f_order
  while low < high do
    local middle = math.ceil((low + high) / 2)
    if f_order[middle].first <= n then low = middle else high = middle - 1 end
  end
  local map = f_order[low]
  if map and n >= map.first and n < map.first + map.count then return map end
end

local function flow_has_grown(n) return f.grown ~= nil and string.find(f.grown, ' ' .. n .. ' ', 1, true) ~= nil end

-- The type of a node's task ('' if it cannot be read), and its kind: m for a map, n for any other.
local function flow_task_type(n, map)
  if map and flow_has_grown(map.number) then
    if not map.types then
      local found = redis.call('HMGET', flow, 'kt' .. map.number, 'kc' .. map.number)
      local good, types = pcall(cjson.decode, found[1] or '')
      map.types, map.each = good and type(types) == 'table' and types or {}, found[2] or ''
    end
    local told = map.types[(string.byte(map.each, n - map.first + 1) or 0) - 32]
    return type(told) == 'table' and tostring(told[1]) or '', 'n'
  end
  local told = flow_node(map and map.number or n) or {}
  return tostring(told.t or ''), not map and told.k == 'map' and 'm' or 'n'
end

-- What was declared of a node, or of the one whose child it is.
local function flow_declared(n)
  local map = flow_map_of(n)
  while map do
    n = map.number
    map = flow_map_of(n)
  end
  return flow_node(n)
end

local function flow_timer_row(n) return string.format('%s %d t', flow_id, n) end

-- Everything that waits is skipped. What was released ends by itself.
local function flow_skip(cancelled)
  flow_merge()
  local last = not cancelled and f.on_failure
  local waits = last and (flow_at(last) == 'w' or flow_at(last) == 'q')
  local skipped, number = string.gsub(f_states, '[wq]', 's')
  if waits then
    skipped, number = string.sub(skipped, 1, last) .. 'w' .. string.sub(skipped, last + 2), number - 1
  end
  f_states, f_whole = skipped, true
  f.waiting, f.skipped, f.ready, f.todo = f.waiting - number, f.skipped + number, 0, ''
  for control in string.gmatch(f.controls or '', '%d+') do
    if flow_at(tonumber(control)) == 'r' then
      flow_put(tonumber(control), 's')
      redis.call('ZREM', inbox, flow_timer_row(tonumber(control)))
    end
  end
end

-- why: what is told of it, where no task of the node says more.
local function flow_fail(cause, why)
  if f.state ~= 'running' then return end
  f.state, f.cause = 'failing', tostring(cause)
  if why then redis.call('HSET', flow, 'why', why) else redis.call('HDEL', flow, 'why') end
  flow_skip(false)
  if redis.call('HGET', flow, 'fail_fast') == '1' then redis.call('ZADD', flows, 0, flow_id) end
end

-- Return whether all that a node waits for has ended as it should. Of very many only those are looked at that were not before.
local function flow_may_run(n, told)
  local parents, from, noted = told.a or {}, 1, 'u' .. n
  local long = #parents > 16
  if long then
    local generation, seen = string.match(redis.call('HGET', flow, noted) or '', '^(%d+):(%d+)$')
    if tonumber(generation) == f.generation then from = tonumber(seen) end
  end
  for m = from, #parents do
    local letter = flow_at(parents[m])
    local fine = letter == 'c' or FAILED[letter] and (flow_node(parents[m]) or {}).c
    if not fine then
      if long then redis.call('HSET', flow, noted, f.generation .. ':' .. m) end
      return false
    end
  end
  return true
end

local function flow_after(n) f.todo = f.todo .. ' ' .. (redis.call('HGET', flow, 'd' .. n) or '') end

-- How many children of a map are left, how many of them were let run, and the next to be looked at.
local function flow_counts(map)
  if not map.left then
    local found = redis.call('HMGET', flow, 'left:' .. map.number, 'out:' .. map.number, 'next:' .. map.number)
    map.left, map.out, map.next = tonumber(found[1]) or 0, tonumber(found[2]) or 0, tonumber(found[3]) or map.first
    local at = map.next - map.first
    if not (at >= 0 and at <= map.count and at % 1 == 0) then map.next = map.first end
  end
  return map
end

-- The child of a node that runs behind the others, with their results; nil if none does.
local function flow_join(map)
  if map.join == nil then
    local joined = map.count > 0 and flow_has_grown(map.number) and redis.call('HGET', flow, 'kj' .. map.number) == '1'
    map.join = joined and map.first + map.count - 1 or false
  end
  return map.join or nil
end

local function flow_join_now(map)
  local join = map.left == 1 and flow_join(map)
  if not join or flow_at(join) ~= 'w' then return end
  flow_put(join, 'q')
  map.out = map.out + 1
end

-- Let the next children of a map run.
local function flow_more(map)
  local last = map.first + map.count - 1
  if flow_join(map) then last = last - 1 end
  while map.out <= WINDOW / 2 and map.next <= last do
    flow_merge()
    local from, to = map.next, math.min(map.next + PAGE, last + 1) - 1
    local now_ready, number = string.gsub(string.sub(f_states, from + 1, to + 1), 'w', 'q')
    f_states = string.sub(f_states, 1, from) .. now_ready .. string.sub(f_states, to + 2)
    f_whole = true
    f.ready, map.out, map.next = f.ready + number, map.out + number, to + 1
  end
end

-- The undo task of a map that was declared; nil if it has none.
local function flow_map_undo(map)
  if map.undo == nil then
    local told = not flow_map_of(map.number) and flow_node(map.number)
    map.undo = told and told.k == 'map' and told.u or false
  end
  return map.undo or nil
end

-- A map has completed: it is undone in this turn if any of its children has.
local function flow_map_ordered(map)
  if not map or not flow_map_undo(map) then return end
  flow_merge()
  local part = string.sub(f_states, map.first + 1, map.first + map.count)
  if string.find(part, 'c', 1, true) then f.order = (f.order or '') .. ' ' .. map.number end
end

-- A node is done with its last child, or its list was empty.
local flow_ended_child
local function flow_map_done(n)
  flow_put(n, 'c')
  flow_map_ordered(f_maps[n])
  local map = flow_map_of(n)
  if map then flow_ended_child(map) else flow_after(n) end
end

-- A map begins, or goes on after a retry.
local function flow_open_map(map)
  flow_merge()
  local _, left = string.gsub(string.sub(f_states, map.first + 1, map.first + map.count), 'w', '')
  map.left, map.out, map.next = left, 0, map.first
  if left == 0 then return flow_map_done(map.number) end
  flow_put(map.number, 'r')
  flow_more(map)
  flow_join_now(map)
end

function flow_ended_child(map)
  flow_counts(map)
  map.left, map.out = map.left - 1, map.out - 1
  if flow_at(map.number) ~= 'r' or f.state ~= 'running' then return end
  if map.left > 0 then
    if map.out <= WINDOW / 2 and map.next < map.first + map.count then flow_more(map) end
    return flow_join_now(map)
  end
  flow_map_done(map.number)
end

local function flow_loses(n) return f.losing ~= nil and string.find(f.losing, ' ' .. n .. ' ', 1, true) ~= nil end

-- The task of a node has completed, and left children for it, which are still to be made.
local function flow_grew(n)
  local _, number = string.gsub(f.grown or '', '%d+', '')
  if number >= MOST_GROWN then
    flow_put(n, 'd')
    return flow_fail(n, 'more than ' .. MOST_GROWN .. ' nodes of a flow cannot have children')
  end
  f.grown, f.controls = (f.grown and f.grown ~= '' and f.grown or ' ') .. n .. ' ', (f.controls or '') .. ' ' .. n
  redis.call('HSET', flow, 'grown', f.grown, 'controls', f.controls)
  flow_put(n, f.state == 'running' and 'q' or 's')
end

-- The child of a map has completed. One that failed before and was requeued by hand may come too late for the undo of its map:
-- a retry leaves it as it is.
local BEGUN = {q = true, r = true, c = true}
local function flow_done_child(map, n, letter)
  local undo, failed = flow_map_undo(map), FAILED[flow_at(n)]
  if not undo or failed and letter == 'g' then return end
  if failed and BEGUN[flow_at(tonumber(undo) or -1)] then
    redis.call('HSET', flow, 'late', (redis.call('HGET', flow, 'late') or '') .. ' ' .. n)
    return
  end
  local noted, again = 'noted:' .. map.number, tostring(f.generation)
  map.noted = map.noted or redis.call('HGET', flow, noted)
  if map.noted == again then return end
  f.order, map.noted = (f.order or '') .. ' ' .. map.number, again
  redis.call('HSET', flow, noted, again)
end

-- A node's task has completed: note whether it may have to be undone.
local function flow_done(n, letter)
  if letter ~= 'c' and letter ~= 'g' then return end
  local map = flow_map_of(n)
  if map then return flow_done_child(map, n, letter) end
  local told = flow_node(n)
  if told and told.u and not flow_has_grown(n) then f.order = (f.order or '') .. ' ' .. n end
end

-- A node has ended. One that had failed before and was requeued by hand only has its success noted. What runs because a flow
-- fails has no children: nothing could wait for them.
local function flow_ended(n, letter, why)
  local before = flow_at(n)
  if letter == 'g' and (n == f.on_failure or (flow_node(n) or {}).k == 'undo') then letter = 'c' end
  if before == 'r' or FAILED[before] then flow_done(n, letter) end
  if before == 'r' and flow_loses(n) then
    f.losing = string.gsub(f.losing, ' ' .. n .. ' ', ' ')
    local of = letter == 'g' and flow_map_of(n)
    if of and flow_map_undo(of) then letter = 'c' end  -- it has returned, and is undone as the others
    return flow_put(n, letter == 'c' and 'c' or 's')
  end
  if letter == 'g' and before == 'r' and not flow_has_grown(n) then return flow_grew(n) end
  if before ~= 'r' and not (letter == 'c' and FAILED[before]) then return end
  flow_put(n, letter)
  if before ~= 'r' then return end
  local map, told = flow_map_of(n), flow_declared(n)
  if letter ~= 'c' and n ~= f.on_failure and not (told and told.c) then flow_fail(n, why) end
  if map then return flow_ended_child(map) end
  if f.state == 'running' then flow_after(n) end
end

-- Signals that came before anybody waited for them, by name.
local function flow_mail(signal)
  local good, kept = pcall(cmsgpack.unpack, redis.call('HGET', flow, 'm:' .. signal) or '')
  return good and type(kept) == 'table' and kept or {}
end

local function flow_mail_put(signal, value, most, most_bytes)
  local kept, size = flow_mail(signal), #value
  for _, one in ipairs(kept) do size = size + #tostring(one) end
  if #kept >= most or size > most_bytes then return false end
  kept[#kept + 1] = value
  redis.call('HSET', flow, 'm:' .. signal, cmsgpack.pack(kept))
  return true
end

local function flow_take_signal(n, value)
  redis.call('HSET', flow, 'v' .. n, value)
  redis.call('ZREM', inbox, flow_timer_row(n))
end

-- A timer or a wait begins.
local function flow_begin(n, told)
  local signal = told.k == 'wait' and tostring(told.g)
  local kept = signal and flow_mail(signal) or {}
  if kept[1] then
    flow_take_signal(n, tostring(table.remove(kept, 1)))
    redis.call('HSET', flow, 'm:' .. signal, cmsgpack.pack(kept))
    flow_put(n, 'c')
    return flow_after(n)
  end
  flow_put(n, 'r')
  if signal then redis.call('HSET', flow, 'w:' .. signal, (redis.call('HGET', flow, 'w:' .. signal) or '') .. ' ' .. n) end
  local ms = tonumber(told.z)
  if ms then redis.call('ZADD', inbox, string.format('%.0f', (clock()) + math.min(ms, 1e13)), flow_timer_row(n)) end
end

-- The time of a timer or a wait has come.
local function flow_timer(n)
  local told = flow_at(n) == 'r' and flow_node(n) or {}
  if told.k == 'sleep' then
    flow_ended(n, 'c')
  elseif told.k == 'wait' then
    flow_ended(n, 'e', 'the signal ' .. tostring(told.g) .. ' has not come in time')
  end
end

-- A node that runs for nothing any more, as another has won: what is no task ends at once.
local function flow_lose(n)
  local letter, map = flow_at(n), f_maps[n]
  if letter ~= 'w' and letter ~= 'q' and letter ~= 'r' or flow_loses(n) then return end
  local told = letter == 'r' and not map and not flow_map_of(n) and flow_node(n)
  if letter == 'r' and not map and not (told and (told.k == 'sleep' or told.k == 'wait')) then
    f.losing = (f.losing and f.losing ~= '' and f.losing or ' ') .. n .. ' '
    return redis.call('ZADD', flows, 0, flow_id)  -- a daemon cancels what its caller does not
  end
  flow_put(n, 's')
  if letter == 'r' then redis.call('ZREM', inbox, flow_timer_row(n)) end
  if not map then return end
  for _, inner in ipairs(f_order) do
    if inner.number >= map.first and inner.number < map.first + map.count then flow_lose(inner.number) end
  end
  flow_merge()
  local part = string.sub(f_states, map.first + 1, map.first + map.count)
  local _, ready = string.gsub(part, 'q', '')
  local left, skipped = string.gsub(part, '[wq]', 's')
  f_states = string.sub(f_states, 1, map.first) .. left .. string.sub(f_states, map.first + map.count + 1)
  f_whole = true
  f.waiting, f.skipped, f.ready = f.waiting - skipped, f.skipped + skipped, f.ready - ready
  for at in string.gmatch(left, '()r') do flow_lose(map.first + at - 1) end
end

-- A node without a task ends as soon as it may.
local function flow_ended_now(n, letter, why)
  flow_put(n, 'r')
  flow_ended(n, letter, why)
end

-- Whether a race is decided: the first in its list that has completed wins.
local function flow_race(n, told)
  local racers, won, left = told.a or {}, nil, false
  for m, racer in ipairs(racers) do
    local letter = flow_at(racer)
    if letter == 'c' then won = won or m end
    left = left or not FAILED[letter] and letter ~= 's'
  end
  if not won and left then return end
  if not won then return flow_ended_now(n, 'd', 'none of those that it waits for has completed') end
  redis.call('HSET', flow, 'won' .. n, racers[won])
  for m, alone in ipairs(told.x or {}) do
    for _, loser in ipairs(m ~= won and alone or {}) do flow_lose(loser) end
  end
  flow_ended_now(n, 'c')
end

local function flow_look(n)
  if flow_at(n) ~= 'w' or f.state ~= 'running' or n == f.on_failure then return end
  local told = flow_node(n)
  if not told then return flow_fail(n) end
  if told.k == 'first' then return flow_race(n, told) end
  if not flow_may_run(n, told) then return end
  if told.k == 'sleep' or told.k == 'wait' then return flow_begin(n, told) end
  if f_maps[n] then flow_open_map(f_maps[n]) else flow_put(n, 'q') end
end

-- Look at nodes that may run by now, so many in one call.
local function flow_look_on()
  local looks, at = 0, 1
  if f.state ~= 'running' then f.todo = '' end
  while looks < LOOKS and f.state == 'running' do
    local from, to, n = string.find(f.todo, '(%d+)', at)
    if not from then
      f.todo = ''
      break
    end
    at, looks = to + 1, looks + 1
    flow_look(tonumber(n))
    if f.todo == '' then at = 1 end  -- the flow has failed
  end
  f.todo = string.match(string.sub(f.todo, at), '^%s*(.-)%s*$')
end

local OVER = {completed = true, failed = true, cancelled = true, stuck = true}

-- The node whose effects are undone next, or now; its undo task.
local function flow_undo_last() return tonumber(string.match(string.sub(f.order or '', -7), '(%d+)$')) end
local function flow_undo_of(n)
  local told = n and flow_node(n)
  return told and tonumber(told.u)
end

-- Whether there is something to undo still: the next undo task is let run. One that failed is the end of it.
local function flow_undo()
  while f.undo ~= '0' and f.stuck ~= '1' do
    local n = flow_undo_last()
    if not n then return false end
    local undo = flow_undo_of(n)
    local letter = undo and flow_at(undo)
    if letter == 's' then flow_put(undo, 'q') end
    if letter == 's' or letter == 'q' or letter == 'r' then return true end
    if letter ~= 'c' then f.stuck = '1' else f.order = string.sub(f.order, 1, -2 - #tostring(n)) end
  end
  return false
end

local function flow_end(stamp)
  local last = f.on_failure
  if f.state == 'running' and f.todo == '' then
    local waits = last and flow_at(last) == 'w' and 1 or 0
    -- Nothing may wait for what cannot come.
    if f.waiting > waits and f.released == 0 and f.ready == 0 then flow_fail('none') end
    if f.state == 'running' and f.waiting == waits and f.released == 0 then
      if waits == 1 then flow_put(last, 's') end
      f.state = 'completed'
    end
  end
  if f.state ~= 'running' and f.released == 0 and f.state ~= 'completed' then
    if flow_undo() then
      if f.state ~= 'undoing' then f.ends, f.state = f.state, 'undoing' end
    elseif f.state == 'undoing' then
      f.state = f.ends or 'failing'
    end
  end
  if f.state == 'failing' and f.released == 0 then
    if last and flow_at(last) == 'w' then flow_put(last, 'q') end
    if f.waiting == 0 then f.state = f.stuck == '1' and 'stuck' or 'failed' end
  end
  if f.state == 'cancelling' and f.released == 0 then f.state = f.stuck == '1' and 'stuck' or 'cancelled' end
  if not OVER[f.state] then return end
  redis.call('HSET', flow, 'ended', stamp)
  redis.call('ZADD', flows, stamp, flow_id)  -- its keys get the lifetime of one that has ended, and its parent is told
  redis.call('PUBLISH', (string.gsub(flow, ':flow=', ':flow:done:')), 'look')  -- to those that wait for its end
end

-- The task that the flow runs for has ended.
local function flow_orphaned()
  if f.state ~= 'running' and f.state ~= 'failing' then return end
  f.state, f.undo = 'cancelling', '1'
  flow_skip(true)
  redis.call('ZADD', flows, 0, flow_id)
end

local function flow_judge()
  if not OVER[f.state] then flow_end(string.format('%.0f', (clock()))) end
end

local function flow_close()
  flow_judge()
  local stamp = string.format('%.0f', (clock()))
  local row = flow_id .. ' look'
  if f.ready > 0 or f.todo ~= '' then redis.call('ZADD', inbox, 'NX', stamp, row) else redis.call('ZREM', inbox, row) end
  flow_write()
  local written = {'state', f.state, 'todo', f.todo, 'cause', f.cause or '', 'generation', f.generation}
  for _, name in ipairs(COUNTS) do
    written[#written + 1] = name
    written[#written + 1] = string.format('%.0f', f[name])
  end
  for _, name in ipairs({'order', 'undo', 'stuck', 'ends', 'losing'}) do
    if f[name] then
      written[#written + 1] = name
      written[#written + 1] = f[name]
    end
  end
  for number, map in pairs(f_maps) do
    if map.left then
      for _, one in ipairs({'left', 'out', 'next'}) do
        written[#written + 1] = one .. ':' .. number
        written[#written + 1] = map[one]
      end
    end
  end
  redis.call('HSET', flow, unpack(written))
  return f.state
end

-- The state as a caller of `flow_advance` gets it: with a mark, where a task waits for this end.
local function flow_reply() return f.parent and OVER[f.state] and f.state .. '!' or f.state end
