#!lua flags=allow-oom
-- settle: end deliveries of one type, each on its own. A delivery that is no longer pending changes nothing.
--
-- The reply of XACK is the fence: a delivery is an entry, and an entry never changes its owner, so the caller
-- that gets a 1 held it. Plain completions (the handler returned, and the task was never moved) are acknowledged
-- and deleted one stream at a time: their ids come first, then pairs of local id and result for each results
-- key. `shape` has the numbers of ids of high, normal, low and suspect, then the number of pairs of each
-- results key. After them come items: op, place, local id ('' if it is the place), a, b. An op in upper case
-- means that the handler was called:
--   c completed   a: number of the results key ('' to store no result)   b: the result
--   r retry       a: delay_ms          b: failures
--   d dead        a: reason/fingerprint b: failures
--   x cancelled   e expired
--   b handed back a: delay_ms ('' for none)  b: how often it was handed back with a delay
-- USES clock group_of later streams
-- KEYS writer schedule index dead letters counters cancels waiters gone high normal low suspect groups buckets expiring doorbell ready bell results...
-- ARGV task_type sequence memory_ms group done wake shape ttls_and_tasks...
-- Returns 'all' if this call settled every delivery, else a string with 1 or 0 for each
local sequence = tonumber(sequence)

local known = redis.call('MGET', writer)[1]
if known then
  local read, last = pcall(cmsgpack.unpack, known)
  -- A record that is none of ours must not keep this writer from settling: XACK is the fence anyway.
  if not read or type(last) ~= 'table' or type(last[1]) ~= 'number' or type(last[2]) ~= 'string' then last = {-1} end
  if last[1] == sequence then return last[2] end
  if last[1] > sequence then return redis.error_reply('STALE call ' .. sequence .. ' after ' .. last[1]) end
end

-- Whether anything besides the entry must be removed with a task: of a plain type nothing.
local noted = redis.call('EXISTS', cancels, waiters, expiring) > 0
local asked = noted and redis.call('EXISTS', cancels) == 1
local awaited = noted and redis.call('EXISTS', waiters) == 1
local counted, deleted, stored, earliest = {}, {}, {}, nil

--rich -- What few calls need: creating so many functions costs as much as ten commands.
--rich -- LATER follow_parts follow
--rich -- LATER claims_parts blob_claim memo_claimed suspended continued unique_enter unique_lost flow_claim
--rich setmetatable(release, {__index = function(_, kind)
--rich   claims_parts()
--rich   return rawget(release, kind)
--rich end})
--rich if string.find(shape, ' ', 1, true) then
--rich   follow_parts()
--rich   shape = follow(shape)
--rich end
--rich local holding
--rich shape, holding = holders_of(shape)
local h, n_, l, s, rest = string.match(shape, '^(%d+),(%d+),(%d+),(%d+)(.*)$')
local sizes = {tonumber(h), tonumber(n_), tonumber(l), tonumber(s)}
local all = sizes[1] + sizes[2] + sizes[3] + sizes[4]
local hashes, plain = #KEYS - first_key + 1, all
if hashes > 0 then
  for number in string.gmatch(rest, '%d+') do
    sizes[#sizes + 1] = tonumber(number)
    plain = plain + 2 * sizes[#sizes]
  end
end
local at = first_arg + hashes
--lean local items = at + plain <= #ARGV
--rich local holders_at, items_at = at + plain, at + plain + 3 * holding.all
--rich local items = holders_at <= #ARGV

-- A script is not rolled back: whatever can fail is checked before the first write. Plain completions touch
-- few keys, so few are checked.
local bad
local function look(key, kind, told)
  if bad or type(told) ~= 'table' or not told.err then return end
  bad = told
  if string.find(told.err, 'WRONGTYPE', 1, true) then
    bad = redis.error_reply(
      'WRONGTYPE ' .. key .. ' is no ' .. kind .. ': somebody overwrote it; nothing was written')
  end
end

local events = {'completed', 'started'}
if items then
  events = {
    'completed', 'started', 'sequence', 'dead', 'adopted', 'cancelled', 'expired', 'retried', 'handed_back'}
  --rich events[#events + 1] = 'continued'
end
local books = redis.pcall('HMGET', counters, unpack(events))
look(counters, 'hash', books)
local total = {}
for n = 1, bad and 0 or #events do
  local value = books[n] or '0'
  -- A row of the schedule starts with the sequence, in at most 15 digits.
  local most = events[n] == 'sequence' and 15 or 17
  if #value > most or not string.find(value, most == 15 and '^%d+$' or '^-?%d+$') then
    bad = redis.error_reply('ERR ' .. counters .. ' holds ' .. value .. ', no number; nothing was written')
  end
  total[events[n]] = tonumber(value)
end
-- If all deliveries are of one stream, the first write is its XACK, which fails on its own.
if items or math.max(sizes[1], sizes[2], sizes[3], sizes[4]) < all then
  for n, letter in ipairs({'h', 'n', 'l', 's'}) do
    if items or sizes[n] > 0 then look(streams[letter], 'stream', redis.pcall('XLEN', streams[letter])) end
  end
end
for n = first_key, #KEYS do look(KEYS[n], 'hash', redis.pcall('HEXISTS', KEYS[n], '')) end
if items or noted then
  for key, kind in pairs({[index] = 'hash', [letters] = 'hash', [cancels] = 'hash'}) do
    look(key, kind, redis.pcall('HEXISTS', key, ''))
  end
  --rich look(inbox, 'sorted set', redis.pcall('ZCARD', inbox))
  --rich for _, key in ipairs({unique, after, steps}) do look(key, 'hash', redis.pcall('HEXISTS', key, '')) end
  for _, key in ipairs({schedule, dead, waiters, gone, groups, expiring}) do
    look(key, 'sorted set', redis.pcall('ZCARD', key))
  end
end
--rich lane_probe(look, items or noted)
if bad then return bad end
--rich local besides, unread = effects(items_at)
--rich if effects_follow and not follow then follow_parts() end
--rich unread = unread or follow and follow_read(items_at, besides, look) or bad
--rich if unread then return unread end

local now = items and clock()
local stamp = items and string.format('%.0f', now)

-- Milliseconds from an argument. One second if the text is not a number that a sorted set can order: it must
-- neither stop the script half way nor keep a task forever.
local function ms_of(text)
  local number = tonumber(text)
  return number and number >= 0 and number < 1e13 and number or 1000
end

--rich -- The entries of the items, where they stand side by side: sixteen a look, as long as most of them are wanted.
--rich local ahead = {}
--rich local function read_ahead(first)
--rich   local spans, wanted = {}, {}
--rich   for n = first, #ARGV, 5 do
--rich     local place = ARGV[n + 1]
--rich     local letter, entry = string.sub(place, 1, 1), string.sub(place, 2)
--rich     local span = spans[letter] or {entry, entry}
--rich     spans[letter], wanted[place] = span, true
--rich     if entry < span[1] then span[1] = entry elseif entry > span[2] then span[2] = entry end
--rich   end
--rich   for letter, span in pairs(spans) do
--rich     local from, hits = span[1], span[1] ~= span[2] and streams[letter] and 16 or 0
--rich     while hits > 8 do
--rich       hits = 0
--rich       for _, entry in ipairs(redis.pcall('XRANGE', streams[letter], from, span[2], 'COUNT', 16)) do
--rich         local place = letter .. entry[1]
--rich         from = '(' .. entry[1]
--rich         if wanted[place] then ahead[place], hits = entry, hits + 1 end
--rich       end
--rich     end
--rich   end
--rich end
--rich if items_at <= #ARGV then read_ahead(items_at) end
--rich local lanes_held = holders_lanes(holders_at, holding.all)
-- Most calls need none of these, and creating so many functions costs as much as a command.
local finish, apply
if items or noted then
  -- USES end_task
  cancelling, expires, waiting = asked, noted, awaited
  finish = end_task
end
--lean if items then
--rich if items_at <= #ARGV then
  -- USES changed dead_letter field priority_of ring
  local function count(name) counted[name] = (counted[name] or 0) + 1 end

  local function append(letter, id, fields)
    redis.call('HSET', index, id, letter .. redis.call('XADD', streams[letter], '*', unpack(fields)))
    ring(streams[letter])
  end

  local function park(letter, id, fields, due)
    local number = redis.call('HINCRBY', counters, 'sequence', 1)
    local score = string.format('%.0f', due)
    redis.call('ZADD', schedule, score, string.format('%012d', number) .. letter .. cmsgpack.pack(fields))
    redis.call('HSET', index, id, string.format('d%s-%.0f', score, number))
    if not earliest or due < earliest then earliest = due end
  end

  local function end_item(item, how, kept)
    finish(item.id, how, stamp, item.fields and field(item.fields, 'c'), kept)
    --rich if not item.fields or #item.fields == 0 then
    --rich   claims_parts()
    --rich   unique_lost(item.id)
    --rich   memo_drop(item.id)
    --rich   flow_lost(item.id)
    --rich end
  end

  local function bury(item, why, failures)
    local reason, fingerprint = string.match(why, '^([^/]*)/?(.*)$')
    if fingerprint == '' then fingerprint = reason end
    local fields = changed(item.fields, {i = item.id, f = failures ~= '' and failures or nil})
    buried(item.id, {reason, item.priority, stamp, fields, fingerprint})
    count('dead')
    if reason == 'foreign' then count('adopted') end
    end_item(item, 'd')
  end

  local ops = {}

  function ops.c(item, results, value)
    --rich -- The children of a flow's node stand behind its result.
    --rich local children = item.grow and string.sub(value, #value - item.grow + 1)
    --rich if children then value = string.sub(value, 1, #value - item.grow) end
    if results ~= '' then
      local number = tonumber(results)
      stored[number] = stored[number] or {}
      table.insert(stored[number], item.id)
      table.insert(stored[number], value)
    end
    --rich if item.node then
    --rich   local number = tostring(tonumber(string.sub(item.id, -6)) or '')
    --rich   for name, one in pairs({[number] = item.expand ~= 1 and value or nil, ['g' .. number] = children}) do
    --rich     stored[item.node] = stored[item.node] or {}
    --rich     table.insert(stored[item.node], name)
    --rich     table.insert(stored[item.node], one)
    --rich   end
    --rich end
    --rich if children or item.blob then claims_parts() end
    --rich if item.blob then blob_of_result(item.blob) end
    --rich if children then flow_grew = true end
    count('completed')
    if item.moved or noted then end_item(item, 'c', results ~= '') end
    --rich if not (item.moved or noted) then end_item(item, 'c', results ~= '') end
    --rich if children then flow_grew = false end
  end

  function ops.x(item)
    count('cancelled')
    end_item(item, 'x')
  end

  function ops.e(item)
    count('expired')
    end_item(item, 'e')
  end

  function ops.d(item, reason, failures) bury(item, reason, failures) end

  function ops.r(item, delay, failures)
    count('retried')
    -- The attempt ended without killing its worker, so the task is no longer a suspect.
    local attempts = string.format('%d', (tonumber(field(item.fields, 'a')) or 0) + 1)
    local fields = changed(item.fields, {i = item.id, a = attempts, f = failures, l = false, q = false})
    --rich fields = lane_again(item, changed(fields, {s = false}), ms_of(delay) > 0 and now + ms_of(delay) or nil)
    --rich if not fields then return end
    if ms_of(delay) > 0 then
      park(item.priority, item.id, fields, now + ms_of(delay))
    else
      append(item.priority, item.id, fields)
    end
  end

  function ops.b(item, delay, times)
    --rich if item.suspend or item.again then claims_parts() end
    --rich if item.suspend then
    --rich   local due = suspended(item, item.suspend, now + ms_of(delay))
    --rich   local waiting = lane_again(item, item.fields, due)
    --rich   if waiting and due then park(item.priority, item.id, waiting, due) end
    --rich   if waiting and not due then append(item.priority, item.id, waiting) end
    --rich   count('handed_back')
    --rich   return
    --rich end
    --rich if item.again then
    --rich   local due = delay ~= '' and now + ms_of(delay) or nil
    --rich   item.fields = continued(item, times, item.again, due or now)
    --rich   local fields = lane_again(item, item.fields, due)
    --rich   if fields and due then park(item.priority, item.id, fields, due) end
    --rich   if fields and not due then append(item.priority, item.id, fields) end
    --rich   if item.tasks then follow_noted(item.tasks) end
    --rich   count('continued')
    --rich   return
    --rich end
    count('handed_back')
    --rich local held = item.hold and changed(item.fields, {i = item.id, q = false})
    --rich if held and not lane_again(item, held, nil, now + item.hold) then return end
    if delay ~= '' then
      -- Its worker is too old for it: another one gets it later. Its attempts and losses stay as they are.
      local fields = changed(item.fields, {i = item.id, q = false, k = times})
      --rich fields = lane_again(item, fields, now + ms_of(delay))
      --rich if not fields then return end
      return park(item.priority, item.id, fields, now + ms_of(delay))
    end
    --rich if lane_asks(item) then return end
    --rich item.fields = lane_moved(item.fields, item.place, 's')
    -- It had its turn, so it goes to the stream that is read first. Without field `l` it is not a suspect there.
    append('s', item.id, changed(item.fields, {i = item.id, q = item.priority}))
  end

  local function read(item)
    --rich local entry = ahead[item.place] or redis.call('XRANGE', item.stream, item.entry, item.entry)[1]
    --lean local entry = redis.call('XRANGE', item.stream, item.entry, item.entry)[1]
    item.fields = entry and entry[2]
    --rich if not entry then lane_ghost() end
    if entry then
      item.id = field(item.fields, 'i') or item.place
      item.priority = priority_of(item.letter, field(item.fields, 'q'))
      --rich if item.steps then claims_parts() end
      --rich if item.steps then item.fields = memo_claimed(item.fields, item.id) end
    end
  end

  function apply(op, item, a, b)
    local again = op == 'r' or op == 'b'
    --rich if not again and op ~= 'd' then read(item) end
    if again or op == 'd' then
      read(item)
      if not item.fields then  -- something else deleted the entry: keep what is left of it
        item.fields, item.priority = {}, 'n'
        return bury(item, 'vanished', op == 'b' and '' or b)
      end
    end
    -- streamq writes no task with so many fields, and Lua could not append it.
    if again and #item.fields > 1000 then return bury(item, 'undecodable', op == 'b' and '' or b) end
    if again and asked and redis.call('HEXISTS', cancels, item.id) == 1 then op = 'x' end
    ops[op](item, a, b)
  end
end

local reply, refused = {}, false

local function settled(yes)
  reply[#reply + 1] = yes and '1' or '0'
  refused = refused or not yes
end

-- Some of these entries were not pending. An entry was held by the caller if it is still in the stream and not
-- after the group's last delivery: settling or reclaiming deletes an entry, and one after the last delivery
-- waits again because the group was lost. An entry that is named twice is settled once.
local function sort_out(stream, entries, acknowledged, stale, letter)
  local about, ours, named = group_of(stream), {}, {}
  local last = about and about['last-delivered-id']
  for _, entry in ipairs(entries) do
    if named[entry] then
      settled(false)
    else
      local there = last and redis.call('XRANGE', stream, entry, entry)[1] and not later(entry, last)
      if there then ours[#ours + 1] = entry else stale[letter .. entry] = true end
      settled(there)
      named[entry] = true
    end
  end
  if #ours > 0 then redis.call('XDEL', stream, unpack(ours)) end
  return math.max(#ours, acknowledged)
end

local stale, kept = {}, {}
if awaited then  -- the tasks whose results are stored: their pairs come after the ids
  for m = at + all, at + plain - 1, 2 do kept[ARGV[m]] = true end
end
for n, letter in ipairs({'h', 'n', 'l', 's'}) do
  local number, stream = sizes[n], streams[letter]
  if number > 0 then
    local done_ = redis.call('XACK', stream, group, unpack(ARGV, at, at + number - 1))
    if done_ == number then
      redis.call('XDEL', stream, unpack(ARGV, at, at + number - 1))
      reply[#reply + 1] = string.rep('1', number)
    else
      done_ = sort_out(stream, {unpack(ARGV, at, at + number - 1)}, done_, stale, letter)
    end
    if done_ > 0 then
      counted.started = (counted.started or 0) + done_
      counted.completed = counted.started
    end
    if noted then
      for m = at, at + number - 1 do
        if not stale[letter .. ARGV[m]] then finish(letter .. ARGV[m], 'c', nil, nil, kept[letter .. ARGV[m]]) end
      end
    end
    at = at + number
  end
end
--rich if holding.all > 0 then
--rich -- USES end_holders
--rich   end_holders(holders_at, holders_at + holding.all)
--rich end
for bucket = 1, hashes do
  local number = sizes[4 + bucket] * 2
  if number > 0 then
    local values = {unpack(ARGV, at, at + number - 1)}
    if next(stale) then
      values = {}
      for m = at, at + number - 1, 2 do
        if not stale[ARGV[m]] then
          values[#values + 1] = ARGV[m]
          values[#values + 1] = ARGV[m + 1]
        end
      end
    end
    if #values > 0 then stored[bucket] = values end
    at = at + number
  end
end

--lean for n = at, #ARGV, 5 do
--rich for n = items_at, #ARGV, 5 do
  local op, place, id = ARGV[n], ARGV[n + 1], ARGV[n + 2]
  local item = {place = place, letter = string.sub(place, 1, 1), entry = string.sub(place, 2)}
  item.id, item.moved, item.stream = id ~= '' and id or place, id ~= '', streams[item.letter]
  --rich local told = besides[n]
  --rich if told ~= NO_EFFECTS then
  --rich   op, item.hold = string.sub(op, 1, 1), told.hold
  --rich   item.steps, item.suspend, item.node = told.steps, told.suspend, told.node
  --rich   item.blob, item.again, item.tasks = told.blob, told.again, told.tasks
  --rich   item.grow, item.expand = told.grow, told.expand
  --rich end
  local ours = redis.call('XACK', item.stream, group, item.entry) == 1
  if ours then
    local quiet = string.lower(op)
    if quiet ~= op then counted.started = (counted.started or 0) + 1 end
    apply(quiet, item, ARGV[n + 3], ARGV[n + 4])
    --rich if quiet == 'c' and told.tasks then follow_noted(told.tasks) end
    deleted[item.stream] = deleted[item.stream] or {}
    table.insert(deleted[item.stream], item.entry)
  end
  settled(ours)
end

for stream, entries in pairs(deleted) do redis.call('XDEL', stream, unpack(entries)) end
for number, values in pairs(stored) do
  local key = KEYS[first_key + number - 1]
  redis.call('HSET', key, unpack(values))
  local life = string.format('%.0f', math.max(1, ms_of(ARGV[first_arg + number - 1])))
  -- GT treats a key without a lifetime, which is a new one, as one that never expires.
  local longer = redis.call('PEXPIRE', key, life, 'GT') == 1
  --rich -- The results of a flow's nodes are found by the flow.
  --rich if string.find(key, ':flow_results=', 1, true) then longer = longer or redis.call('PEXPIRE', key, life, 'NX') == 1 or true end
  if not longer and redis.call('PEXPIRE', key, life, 'NX') == 1 then
    -- A new key: lists find it by its minute, or by its name if its tasks started in the schedule. If the
    -- buckets are not a sorted set, lists do not show it.
    local second, of_schedule = tonumber(string.match(key, ':(%d+)$')), string.match(key, ':(d%d+)$')
    local minute = second and math.floor(second / 60) or math.floor(clock() / 60000)
    redis.pcall('ZADD', buckets, 'GT', minute, of_schedule or tostring(minute))
  end
end
local sums = {}
for name, value in pairs(counted) do
  sums[#sums + 1] = name
  sums[#sums + 1] = string.format('%.0f', total[name] + value)
end
if #sums > 0 then redis.call('HSET', counters, unpack(sums)) end
--rich gate_close()
--rich if follow then follow_close() end
if earliest then
  local head = redis.call('ZRANGE', schedule, 0, 0, 'WITHSCORES')
  if tonumber(head[2]) >= earliest then redis.call('PUBLISH', wake, task_type) end
end
local answer = refused and table.concat(reply) or 'all'
redis.call('SET', writer, cmsgpack.pack({sequence, answer}), 'PX', memory_ms)
return answer
