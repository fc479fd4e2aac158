#!lua
-- enqueue: accept tasks of one type, ready now or due later. A repeated call gets the reply of the first.
--
-- A task is: head, payload, then pairs of field and value. The head is the letter of the priority; `+ms` (due
-- in) or `@ms` (due at), if it is due later; `/n`, if n pairs follow; and `#window_ms`, if it has an idempotency
-- key: then a digest of 16 bytes comes last, and the next of `keys` stores the key's first task (digest,
-- type:local).
-- Not `allow-oom`: a full server refuses all new tasks, and the tasks that it has still run.
-- The writer's last call is stored as text: its sequence, a space, its reply.
-- KEYS writer types policy rate high normal low suspect schedule counters closed expiring doorbell ready bell rules keys...
-- ARGV task_type sequence memory_ms wake tasks...
-- Returns an answer for each task, separated by spaces: a local id, `=<local id>` (its key's first task),
-- `!conflict:<type:local>`, `!<ms to wait>` or `!full`. Nothing was accepted if it is `!closed` (the shard was
-- retired) or `!rich:<argument>` (the type has lanes: send the task again with the lane, which is the value of
-- this argument)
local streams = {h = high, n = normal, l = low}

local known, closed, doorbell, ruled = unpack(redis.call('MGET', writer, closed, doorbell, rules))
if known then
  local last = string.match(known, '^(%d+) ')  -- the reply after it may be long
  if not last or #last > 15 then
    known = nil  -- no record of ours: it must not keep this writer from enqueueing
  elseif last == sequence then
    -- A write, so that WAIT on this connection covers what the first call wrote on another connection.
    redis.call('PEXPIRE', writer, memory_ms)
    return string.sub(known, #last + 2)
  elseif tonumber(last) > tonumber(sequence) then
    -- The request was delayed in the network, and the writer has sent others since.
    return redis.error_reply('STALE call ' .. sequence .. ' after ' .. last)
  end
end

-- Workers that serve many types wait for the doorbell instead of each stream: see `muster`.
local ring
if doorbell then
  function ring(letter, id)
    local stream, since = streams[letter], string.match(id, '^%d+')
    if redis.pcall('ZADD', ready, 'NX', since, stream) == 1 then redis.pcall('ZADD', bell, since, stream) end
  end
end

if closed then return '!closed' end

local limits = redis.call('HMGET', policy, 'rate_limit', 'rate_period_ms', 'max_backlog')
local limited = ruled or limits[1] or limits[3]

-- Nearly every call has only plain tasks: ready now, nothing but a payload, a type without limits.
local answers, n, mixed, accepted, first = {}, first_arg, false, 0, ARGV[first_arg]
while not limited and streams[ARGV[n]] and ARGV[n + 1] do
  mixed = mixed or ARGV[n] ~= first
  n = n + 2
end

-- A script is not rolled back: whatever can fail is checked before the first write, or is the first write.
local wrong, uncountable, no_streams
if mixed or not known or n <= #ARGV then
  function wrong(key, kind, told)
    if type(told) ~= 'table' or not told.err then return nil end
    if not string.find(told.err, 'WRONGTYPE', 1, true) then return told end
    return redis.error_reply(
      'WRONGTYPE ' .. key .. ' is no ' .. kind .. ': somebody overwrote it; nothing was written')
  end

  function uncountable(...)
    local told = redis.pcall('HMGET', counters, ...)
    if told.err then return wrong(counters, 'hash', told) end
    for n = 1, #told do
      local value = told[n]
      local most = select(n, ...) == 'sequence' and 15 or 17  -- a row of the schedule starts with at most 15 digits
      if value and (not string.match(value, most == 15 and '^%d+$' or '^-?%d+$') or #value > most) then
        return redis.error_reply('ERR ' .. counters .. ' holds ' .. value .. ', no number; nothing was written')
      end
    end
  end

  function no_streams()
    local bad
    for _, key in ipairs({high, normal, low, suspect}) do
      bad = bad or wrong(key, 'stream', redis.pcall('XLEN', key))
    end
    return bad
  end

  local bad = uncountable('accepted') or no_streams()
  if bad then return bad end
  -- The later calls of a writer have the lifetime of its first.
  if not string.find(sequence, '^%d+$') or not string.find(memory_ms, '^[1-9]%d*$') or #memory_ms > 15 then
    return redis.error_reply('MALFORMED call; nothing was written')
  end
end

if n > #ARGV then
  if not known then redis.call('SADD', types, task_type) end
  local before = first_arg - 2
  accepted = (n - first_arg) / 2
  local total = redis.call('HINCRBY', counters, 'accepted', accepted)
  local pcall = redis.pcall
  for m = first_arg, n - 1, 2 do
    local entry = pcall('XADD', streams[ARGV[m]], '*', 'p', ARGV[m + 1])
    if type(entry) == 'table' then  -- all tasks go to one stream, so the first fails: only the counter is undone
      if total == accepted then
        redis.call('HDEL', counters, 'accepted')
      else
        redis.call('HINCRBY', counters, 'accepted', -accepted)
      end
      return entry
    end
    answers[(m - before) / 2] = ARGV[m] .. entry
    if doorbell then ring(ARGV[m], entry) end
  end
  -- The type was forgotten, and this writer knew it before.
  if known and total == accepted then redis.pcall('SADD', types, task_type) end
  local said = accepted == 1 and answers[1] or table.concat(answers, ' ')
  redis.call('SET', writer, sequence .. ' ' .. said, 'PX', memory_ms)
  return said
end

-- The slow half: it costs as much again.
-- USES clock rules_kept
-- A registration by an older release removes rules from the policy; these stay in force.
local kept = rules_kept(ruled)
--lean if kept.unique or redis.call('HGET', policy, 'rich') then return '!rich' end
-- A stored value that no app can have written counts as missing.
local function whole(value)
  return string.match(value or '', '^%d+$') and #value <= 15 and tonumber(value) or nil
end
local most, period, backlog = whole(limits[1]), whole(limits[2]), whole(limits[3])
if most == 0 or not period then most = nil end
local now = clock()
local room, earliest = math.huge, nil
n = first_arg
local bad = uncountable('sequence')
  or wrong(schedule, 'sorted set', redis.pcall('ZCARD', schedule))
  or wrong(rate, 'list', redis.pcall('LLEN', rate))
  or wrong(expiring, 'sorted set', redis.pcall('ZCARD', expiring))
for m = first_key, #KEYS do bad = bad or wrong(KEYS[m], 'string', redis.pcall('GET', KEYS[m])) end
--rich bad = bad or lane_probe(wrong)
--rich if backlog and backlog > 1e14 then backlog = nil end  -- no limit: see TaskOptions.policy
if bad then return bad end
if backlog then
  room = backlog - redis.call('ZCARD', schedule)
  for _, key in ipairs({high, normal, low, suspect}) do room = room - redis.call('XLEN', key) end
  --rich room = room - redis.call('ZCARD', lanes)
end

-- `rate` holds the times of the last `most` accepted tasks, newest first: exact in every window.
local function refusal()
  if room <= 0 then return '!full' end
  local oldest = most and tonumber(redis.call('LINDEX', rate, most - 1))
  -- If `oldest` is in the future, the clock was set back: ignore it.
  if oldest and oldest <= now and now < oldest + period then
    return string.format('!%.0f', oldest + period - now)
  end
end

--rich local joined
local function place(letter, due, fields)
  room = room - 1
  accepted = accepted + 1
  if most then redis.call('LPUSH', rate, string.format('%.0f', now)) end
  --rich local lane = joined and joined.lane
  --rich if lane and (not due or due <= now) then return lane_enter(joined, letter, fields) end
  --rich if lane then fields = lane_later(joined, fields, due) end
  if not due or due <= now then
    local id = redis.call('XADD', streams[letter], '*', unpack(fields))
    if doorbell then ring(letter, id) end
    return letter .. id
  end
  local number = redis.call('HINCRBY', counters, 'sequence', 1)
  fields[#fields + 1] = 'e'
  fields[#fields + 1] = string.format('%.0f', now)
  local score = string.format('%.0f', due)
  redis.call('ZADD', schedule, score, string.format('%012d', number) .. letter .. cmsgpack.pack(fields))
  if not earliest or due < earliest then earliest = due end
  return string.format('d%s-%.0f', score, number)
end

-- The daemon reads these rows, so that a task also expires if no worker serves its type.
local function accept(letter, due, fields, expires)
  local id = place(letter, due, fields)
  if expires then redis.call('ZADD', expiring, expires, id) end
  return id
end

--rich local function tell(letter, id) if doorbell then ring(letter, id) end end
--rich local unique_read, judged, unique_lock, unique_parts
--rich -- Read the task at n if it is ready now, and joins nothing but a lane whose name has nothing escaped: nearly all are such,
--rich -- and cost half of the others. Its only field is what its worker must know.
--rich local READY, NEEDING = {['h*'] = 'h', ['n*'] = 'n', ['l*'] = 'l'}, {['h/1*'] = 'h', ['n/1*'] = 'n', ['l/1*'] = 'l'}
--rich local function read_laned()
--rich   local letter, at, fields = READY[ARGV[n]], n + 2, nil
--rich   if not letter then
--rich     letter, at = ARGV[at] == 'N' and NEEDING[ARGV[n]], n + 4
--rich     if not letter then return nil end
--rich   end
--rich   local lane = string.match(ARGV[at] or '', '^{"lane": ?"([^"\\%c]*)"}$')
--rich   if not lane or #lane > 200 then return nil end
--rich   if at == n + 2 then fields = {'p', ARGV[n + 1], nil, nil} else fields = {'p', ARGV[n + 1], 'N', ARGV[n + 3], nil, nil} end
--rich   n = at + 1
--rich   return {letter = letter, fields = fields, joins = {lane = lane}}
--rich end
-- Read the task at n; nil if it is malformed.
local function read()
  -- The pattern would try every split of a long run of digits: a valid head is shorter than 64 characters.
  local head = ARGV[n] and #ARGV[n] < 64 and ARGV[n] or ''
  --lean local letter, sign, ms, count, window = string.match(head, '^([hnl])([+@]?)(%d*)/?(%d*)#?(%d*)$')
  --rich local letter, sign, ms, count, window, joins = string.match(head, '^([hnl])([+@]?)(%d*)/?(%d*)#?(%d*)(%*?)$')
  local task = {letter = letter, due = tonumber(ms), fields = {'p', ARGV[n + 1]}, window = window}
  if not letter or #task.fields < 2 or (sign ~= '') ~= (task.due ~= nil) or #ms > 15 then return nil end
  if sign == '+' then task.due = now + task.due end
  -- With enough digits, a task would stay in the schedule forever: the limit is 300 years.
  if task.due and task.due > now + 1e13 then task.due = now + 1e13 end
  n = n + 2
  for _ = 1, tonumber(count) or 0 do
    local name, value = ARGV[n], ARGV[n + 1]
    if name == 'x' then
      -- The lifetime starts when the task is due.
      if not string.match(value or '', '^%d+$') or #value > 15 then return nil end
      value = string.format('%.0f', math.max(task.due or now, now) + math.min(tonumber(value), 1e13))
      task.expires = value
    end
    if not value or #task.fields > 900 then return nil end
    table.insert(task.fields, name)
    table.insert(task.fields, value)
    n = n + 2
  end
  if window ~= '' then
    task.digest = ARGV[n]
    n = n + 1
    if not task.digest or #window > 15 or tonumber(window) == 0 then return nil end
  end
  --rich if joins == '*' then
  --rich   local good, asked = pcall(cjson.decode, ARGV[n] or '')
  --rich   n = n + 1
  --rich   if not good or type(asked) ~= 'table' then return nil end
  --rich   if not lane_good(asked) then return nil end
  --rich   if kept.held then without_held(kept, asked, task.fields) end
  --rich   task.joins, task.claims = asked, {}
  --rich   if not unique_read and (asked.unique or asked.trailing ~= nil) then unique_parts() end
  --rich   if unique_read and not unique_read(task) or asked.blob ~= nil and not blob_read(task) then return nil end
  --rich   if task.claims[1] then
  --rich     table.insert(task.fields, 'c')
  --rich     table.insert(task.fields, cmsgpack.pack(task.claims))
  --rich   end
  --rich end
  return task
end

-- The answer for an idempotency key that has a task; nil if the key is new. Checked before the limits, as it
-- creates no task.
local function first_of(record, digest)
  local first = redis.call('GET', record)
  if not first then return nil end
  local local_id = string.match(first, '^[%w._@-]+:([%w-]+)$', 17)
  if not local_id then return nil end  -- streamq did not write it
  return string.sub(first, 1, 16) == digest and '=' .. local_id or '!conflict:' .. string.sub(first, 17)
end

--rich -- What only tasks with a unique key need: creating so many functions costs as much as ten commands.
--rich function unique_parts()
--rich   for _, key in ipairs({unique, after, cancels}) do bad = bad or wrong(key, 'hash', redis.pcall('HEXISTS', key, '')) end
--rich   bad = bad or uncountable('joined', 'replaced', 'superseded')
--rich -- USES unique_read
--rich end
--rich local rich = kept.unique or redis.call('HGET', policy, 'rich')
local tasks, record = {}, first_key - 1
while n <= #ARGV do
  --lean local task = read()
  --rich local task = not kept.held and not unique_read and read_laned() or read()
  if not task then return redis.error_reply('MALFORMED task ' .. #tasks + 1 .. '; nothing was written') end
  tasks[#tasks + 1] = task
  if task.digest then record = record + 1 end
end
if record ~= #KEYS then return redis.error_reply('MALFORMED keys; nothing was written') end
--rich if bad or blob_wrong then return bad or blob_wrong end
local gated = redis.call('HMGET', policy, 'gate', 'lane')
local gate, argument = gated[1], gated[2]
if not gate then gate, argument = kept.gate, kept.lane end
for _, task in ipairs(gate and tasks or {}) do
  if not (task.joins and task.joins.lane) then return '!rich:' .. (argument or '') end
end
record = first_key - 1
--rich lane_ready(tasks, now)
if not known then redis.call('SADD', types, task_type) end
for number, task in ipairs(tasks) do
  if task.digest then record = record + 1 end
  --lean local answer = task.digest and first_of(KEYS[record], task.digest) or refusal()
  --rich joined = task.joins
  --rich local answer = rich and not (joined and joined.unique ~= true) and '!unjoined'
  --rich if not answer and judged then answer = judged(task, KEYS[record]) end
  --rich if not answer and not judged then answer = task.digest and first_of(KEYS[record], task.digest) or refusal() end
  if not answer then
    answer = accept(task.letter, task.due, task.fields, task.expires)
    --rich if unique_lock then unique_lock(task, answer) end
    if task.digest then
      redis.call('SET', KEYS[record], task.digest .. task_type .. ':' .. answer, 'PX', task.window)
    end
  end
  --rich if task.blob then blob_enter(task, answer) end
  answers[number] = answer
end
local total = accepted > 0 and redis.call('HINCRBY', counters, 'accepted', accepted)
if known and total == accepted then redis.pcall('SADD', types, task_type) end
if most and accepted > 0 then
  redis.call('LTRIM', rate, 0, most - 1)
  redis.call('PEXPIRE', rate, period)
end
--rich gate_close()
local said = table.concat(answers, ' ')
redis.call('SET', writer, sequence .. ' ' .. said, 'PX', memory_ms)
if earliest then
  local head = redis.call('ZRANGE', schedule, 0, 0, 'WITHSCORES')
  --lean if tonumber(head[2]) >= earliest then redis.call('PUBLISH', wake, task_type) end
  --rich if head[2] and tonumber(head[2]) >= earliest then redis.call('PUBLISH', wake, task_type) end
end
return said
