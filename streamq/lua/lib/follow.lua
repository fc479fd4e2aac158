-- follow(shape): part the follow-ups of a settlement from the ends of KEYS and ARGV, which the shape announces behind a
-- space: how many arguments and how many keys. Returns the shape without that.
-- follow_read(first, besides, look): read them, each for the item that has it; returns an error if they are malformed.
-- follow_noted(tasks): the task of an item completed, so its follow-ups are to exist.
-- follow_close(): let them exist. Called once, behind the last change of the settled tasks' own counters.
--
-- A follow-up is a task that a handler enqueued. It goes to the shard of that handler's task, with an id that the handler
-- was told. Arguments: how many types and their names, then each follow-up: number of its type, local id, and a task as
-- enqueue takes it. Keys: `types`, those of each type, then the record of each idempotency key.
-- A type whose tasks pass a gate or a lock gets a dead letter instead: a program that knows the type refuses this before.
-- USES clock ring rules_kept
-- ARGV wake
local FOLLOW_KEYS = {
  'high', 'normal', 'low', 'suspect', 'schedule', 'index', 'counters', 'policy', 'rules', 'expiring', 'dead', 'letters',
  'groups'}
local follow_args, follow_keys, follow_types, follow_tasks = {}, {}, {}, {}

local function follow_taken(list, number)
  local taken = {}
  for n = math.min(number, #list), 1, -1 do
    taken[n] = list[#list]
    list[#list] = nil
  end
  return taken
end

local function follow(shape_)
  local rest, args, keys = string.match(shape_, '^(%S+) (%d+) (%d+)$')
  if not rest then return shape_ end
  follow_args, follow_keys = follow_taken(ARGV, tonumber(args)), follow_taken(KEYS, tonumber(keys))
  return rest
end

-- Read the follow-up that stands at a position; nil if it is malformed. Returns the position behind it as well.
local function follow_task(at)
  local of, id, head = follow_types[tonumber(follow_args[at])], follow_args[at + 1] or '', follow_args[at + 2] or ''
  if not of or not string.find(id, '^[hnl]%d+%-%d+$') or #id > 40 or #head > 63 then return nil end
  local letter, sign, ms, count, window = string.match(head, '^([hnl])([+@]?)(%d*)/?(%d*)#?(%d*)$')
  if not letter or (sign ~= '') ~= (ms ~= '') or #ms > 15 or #count > 3 or #window > 15 then return nil end
  local task = {
    of = of, id = id, letter = letter, sign = sign, due = tonumber(ms), fields = {'p', follow_args[at + 3]},
    window = window}
  at = at + 4
  for _ = 1, 2 * (tonumber(count) or 0) do
    task.fields[#task.fields + 1] = follow_args[at]
    at = at + 1
  end
  if #task.fields ~= 2 + 2 * (tonumber(count) or 0) then return nil end
  for n = 1, #task.fields, 2 do
    if task.fields[n] == 'x' then task.life = tonumber(task.fields[n + 1]) end
    if task.fields[n] == 'x' and not (task.life and task.life >= 0) then return nil end
  end
  if window ~= '' then
    task.digest = follow_args[at]
    at = at + 1
    if not task.digest or tonumber(window) == 0 then return nil end
  end
  return task, at
end

local function follow_kinds(look)
  for _, of in ipairs(follow_types) do
    for _, name in ipairs({'high', 'normal', 'low', 'suspect'}) do look(of[name], 'stream', redis.pcall('XLEN', of[name])) end
    for _, name in ipairs({'schedule', 'expiring', 'dead', 'groups'}) do
      look(of[name], 'sorted set', redis.pcall('ZCARD', of[name]))
    end
    for _, name in ipairs({'index', 'letters'}) do look(of[name], 'hash', redis.pcall('HEXISTS', of[name], '')) end
    local books = redis.pcall('HMGET', of.counters, 'accepted', 'sequence', 'dead')
    look(of.counters, 'hash', books)
    for n = 1, books.err and 0 or 3 do
      local value = books[n] or '0'
      if #value > (n == 2 and 15 or 17) or not string.find(value, '^-?%d+$') then
        return redis.error_reply('ERR ' .. of.counters .. ' holds ' .. value .. ', no number; nothing was written')
      end
    end
    local told, text = redis.pcall('HMGET', of.policy, 'rich', 'gate'), redis.pcall('GET', of.rules)
    look(of.policy, 'hash', told)
    look(of.rules, 'string', text)
    local kept = rules_kept(text)
    of.gated = not told.err and (told[1] or told[2] or kept.gate or kept.unique)
  end
end

local function follow_read(first, besides, look)
  local bad = redis.error_reply('MALFORMED follow-ups of a settlement; nothing was written')
  local number, at, key = tonumber(follow_args[1]) or 0, 2, 2
  for n = 1, number do
    local of = {name = follow_args[at]}
    for m, name in ipairs(FOLLOW_KEYS) do of[name] = follow_keys[key + m - 1] end
    at, key = at + 1, key + #FOLLOW_KEYS
    if not of.groups then return bad end
    follow_types[n] = of
  end
  for n = first, #ARGV, 5 do
    local told = besides[n]
    told.tasks = told.follow and {}
    for m = 1, told.follow or 0 do
      local task, after = follow_task(at)
      if not task then return bad end
      if task.digest then
        task.record, key = follow_keys[key], key + 1
        if not task.record then return bad end
        look(task.record, 'string', redis.pcall('GET', task.record))
      end
      at = after
      told.tasks[m] = task
    end
  end
  if number == 0 then return #follow_args > 1 and bad or nil end
  if at ~= #follow_args + 1 or key ~= #follow_keys + 1 then return bad end
  return follow_kinds(look)
end

local function follow_noted(tasks)
  for _, task in ipairs(tasks) do follow_tasks[#follow_tasks + 1] = task end
end

-- Return whether its idempotency key has a task already.
local function follow_known(task)
  if not task.record then return false end
  if string.match(redis.call('GET', task.record) or '', '^[%w._@-]+:[%w-]+$', 17) then return true end
  redis.call('SET', task.record, task.digest .. task.of.name .. ':' .. task.id, 'PX', task.window)
  return false
end

local function follow_dead(task, why, stamp)
  local of = task.of
  redis.call('ZADD', of.dead, stamp, task.id)
  redis.call('HSET', of.letters, task.id, cmsgpack.pack({why, task.letter, stamp, task.fields, why}))
  redis.call('ZADD', of.groups, 0, why .. ' ' .. stamp .. ' ' .. task.id)
  of.dead_now = (of.dead_now or 0) + 1
end

local STREAM_OF = {h = 'high', n = 'normal', l = 'low'}

local function follow_scheduled(task, due)
  local of = task.of
  local number, score = redis.call('HINCRBY', of.counters, 'sequence', 1), string.format('%.0f', due)
  redis.call('ZADD', of.schedule, score, string.format('%012d', number) .. task.letter .. cmsgpack.pack(task.fields))
  redis.call('HSET', of.index, task.id, string.format('d%s-%.0f', score, number))
  if not of.earliest or due < of.earliest then of.earliest = due end
end

local function follow_put(task, now)
  if follow_known(task) then return end
  local of, fields, stamp = task.of, task.fields, string.format('%.0f', now)
  local due = task.due and math.min(task.due + (task.sign == '+' and now or 0), now + 1e13)
  local expires = task.life and string.format('%.0f', math.max(due or now, now) + math.min(task.life, 1e13))
  for n = 1, #fields, 2 do
    if fields[n] == 'x' then fields[n + 1] = expires end
  end
  for _, value in ipairs({'i', task.id, 'e', stamp}) do fields[#fields + 1] = value end
  of.accepted_now = (of.accepted_now or 0) + 1
  if of.gated then return follow_dead(task, 'gate', stamp) end
  if due and due > now then
    follow_scheduled(task, due)
  else
    local stream = of[STREAM_OF[task.letter]]
    local entry = redis.pcall('XADD', stream, '*', unpack(fields))
    if type(entry) == 'table' then return follow_dead(task, 'stream', stamp) end  -- it has reached its last id
    redis.call('HSET', of.index, task.id, task.letter .. entry)
    ring(stream)
  end
  if expires then redis.call('ZADD', of.expiring, expires, task.id) end
end

local function follow_close()
  if #follow_tasks == 0 then return end
  local now = clock()
  for _, task in ipairs(follow_tasks) do follow_put(task, now) end
  for _, of in ipairs(follow_types) do
    if of.accepted_now then
      redis.pcall('SADD', follow_keys[1], of.name)  -- a damaged one costs no task
      redis.call('HINCRBY', of.counters, 'accepted', of.accepted_now)
    end
    if of.dead_now then redis.call('HINCRBY', of.counters, 'dead', of.dead_now) end
    local head = of.earliest and redis.call('ZRANGE', of.schedule, 0, 0, 'WITHSCORES')
    if head and head[2] and tonumber(head[2]) >= of.earliest then redis.call('PUBLISH', wake, of.name) end
  end
end
