#!lua
-- enqueue: accept tasks of one type, ready now or due later; a repeated call gets the first call's answer.
--
-- A task is: head, payload, then as many pairs of field and value as the head says. The head is the
-- letter of the priority, `+ms` (due in) or `@ms` (due at) or nothing, `/n` where n pairs follow, and
-- `#window_ms` where it has an idempotency key: then a digest of 16 bytes comes last, and the next of the
-- keys is where the key's first task is remembered: digest, type:local.
-- Not `allow-oom`: a full server refuses new tasks as a whole and goes on draining the ones it has.
-- A writer's last call is remembered as text: its sequence, a space, its answers.
-- KEYS writer types policy rate high normal low suspect schedule counters closed keys...
-- ARGV type sequence memory_ms wake tasks...
-- Returns an answer for each task, with spaces between: a local id, `=<local id>` (its key's first task),
-- `!conflict:<type:local>`, `!<ms to wait>` or `!full`; `!closed` where the shard was given up and nothing
-- was taken
local writer, counters = KEYS[1], KEYS[10]
local streams = {h = KEYS[5], n = KEYS[6], l = KEYS[7]}

local known, closed = unpack(redis.call('MGET', writer, KEYS[11]))
if known then
  local last, before = string.match(known, '^(%d+) (.*)$')
  if last == ARGV[2] then
    -- A write, so that WAIT on this connection waits for what the first sending wrote on another.
    redis.call('PEXPIRE', writer, ARGV[3])
    return before
  end
  -- A request that was stuck in the network and arrives after the writer has gone on.
  if tonumber(last) > tonumber(ARGV[2]) then
    return redis.error_reply('STALE call ' .. ARGV[2] .. ' after ' .. last)
  end
end
if closed then return '!closed' end
if not known then redis.call('SADD', KEYS[2], ARGV[1]) end

local limits = redis.call('HMGET', KEYS[3], 'rate_limit', 'rate_period_ms', 'max_backlog')
local limited = limits[1] or limits[3]

-- Nearly every call is of plain tasks: ready now, with nothing but a payload, of a type without limits.
local answers, n = {}, 5
while not limited and streams[ARGV[n]] do
  answers[#answers + 1] = ARGV[n] .. redis.call('XADD', streams[ARGV[n]], '*', 'p', ARGV[n + 1])
  n = n + 2
end
local accepted = #answers
if n > #ARGV then
  local said = accepted == 1 and answers[1] or table.concat(answers, ' ')
  redis.call('HINCRBY', counters, 'accepted', accepted)
  redis.call('SET', writer, ARGV[2] .. ' ' .. said, 'PX', ARGV[3])
  return said
end

-- What follows costs as much again.
local rate_log, schedule = KEYS[4], KEYS[9]
local rate, period, backlog = tonumber(limits[1]), tonumber(limits[2]), tonumber(limits[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local room, earliest = math.huge, nil
if backlog then
  room = backlog - redis.call('ZCARD', schedule)
  for k = 5, 8 do room = room - redis.call('XLEN', KEYS[k]) end
end

-- The log holds the times of the last `rate` accepted tasks, newest first: exact in every window.
local function refusal()
  if room <= 0 then return '!full' end
  local oldest = rate and tonumber(redis.call('LINDEX', rate_log, rate - 1))
  -- An `oldest` in the future means that the clock was set back: it says nothing.
  if oldest and oldest <= now and now < oldest + period then
    return string.format('!%.0f', oldest + period - now)
  end
end

local function accept(letter, due, fields)
  room = room - 1
  accepted = accepted + 1
  if rate then redis.call('LPUSH', rate_log, string.format('%.0f', now)) end
  if not due or due <= now then
    return letter .. redis.call('XADD', streams[letter], '*', unpack(fields))
  end
  local number = redis.call('HINCRBY', counters, 'sequence', 1)
  fields[#fields + 1] = 'e'
  fields[#fields + 1] = string.format('%.0f', now)
  local score = string.format('%.0f', due)
  redis.call('ZADD', schedule, score, string.format('%012d', number) .. letter .. cmsgpack.pack(fields))
  if not earliest or due < earliest then earliest = due end
  return 'd' .. score .. '-' .. number
end

-- The task at n: its letter, when it is due, its fields; where it has a key, its digest and the window.
local function read()
  local letter, sign, ms, count, window = string.match(ARGV[n], '^([hnl])([+@]?)(%d*)/?(%d*)#?(%d*)$')
  local due, fields = tonumber(ms), {'p', ARGV[n + 1]}
  if sign == '+' then due = now + due end
  -- Digits enough make infinity, which the schedule would keep for ever: 300 years are the most.
  if due and due > now + 1e13 then due = now + 1e13 end
  n = n + 2
  for _ = 1, tonumber(count) or 0 do
    local value = ARGV[n + 1]
    -- A lifetime counts from when the task is due.
    if ARGV[n] == 'x' then
      local life = tonumber(value)
      if not life or not (life >= 0 and life < 1e13) then life = 1e13 end
      value = string.format('%.0f', math.max(due or now, now) + life)
    end
    fields[#fields + 1] = ARGV[n]
    fields[#fields + 1] = value
    n = n + 2
  end
  if window == '' then return letter, due, fields end
  n = n + 1
  return letter, due, fields, ARGV[n - 1], window
end

-- What a key has brought: nil where it is new. It comes before the limits: no second task is made.
local function first_of(record, digest)
  local first = redis.call('GET', record)
  if not first then return nil end
  local same = string.sub(first, 1, 16) == digest
  return same and '=' .. string.match(first, ':(.*)$', 17) or '!conflict:' .. string.sub(first, 17)
end

local record = 11
while n <= #ARGV do
  local letter, due, fields, digest, window = read()
  if digest then record = record + 1 end
  local answer = digest and first_of(KEYS[record], digest) or refusal()
  if not answer then
    answer = accept(letter, due, fields)
    if digest then redis.call('SET', KEYS[record], digest .. ARGV[1] .. ':' .. answer, 'PX', window) end
  end
  answers[#answers + 1] = answer
end
if accepted > 0 then redis.call('HINCRBY', counters, 'accepted', accepted) end
if rate and accepted > 0 then
  redis.call('LTRIM', rate_log, 0, rate - 1)
  redis.call('PEXPIRE', rate_log, period)
end
local said = table.concat(answers, ' ')
redis.call('SET', writer, ARGV[2] .. ' ' .. said, 'PX', ARGV[3])
if earliest then
  local head = redis.call('ZRANGE', schedule, 0, 0, 'WITHSCORES')
  if tonumber(head[2]) >= earliest then redis.call('PUBLISH', ARGV[4], ARGV[1]) end
end
return said
