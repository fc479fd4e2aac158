#!lua
-- enqueue: accept tasks of one type, ready now or due later; a repeated call gets the first call's answer.
--
-- A task is: head, payload, then as many pairs of field and value as the head says. The head is the
-- letter of the priority, `+ms` (due in) or `@ms` (due at) or nothing, `/n` where n pairs follow, and
-- `#window_ms` where it has an idempotency key: then a digest of 16 bytes comes last, and the next of the
-- keys is where the key's first task is remembered: digest, type:local.
-- Not `allow-oom`: a full server refuses new tasks as a whole and goes on draining the ones it has.
-- KEYS writer types policy rate high normal low suspect schedule counters closed keys...
-- ARGV type sequence memory_ms wake tasks...
-- Returns {now_ms, answer...}: a local id, `=<local id>` (its key's first task), `!conflict <type:local>`,
-- `!rate <ms to wait>` or `!full`; {now_ms, '!closed'} where the shard was given up and nothing was taken
local writer, rate_log, schedule, counters = KEYS[1], KEYS[4], KEYS[9], KEYS[10]
local streams = {h = KEYS[5], n = KEYS[6], l = KEYS[7]}
local sequence = tonumber(ARGV[2])

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local known, closed = unpack(redis.call('MGET', writer, KEYS[11]))
if known then
  local last = cmsgpack.unpack(known)
  if last[1] == sequence then
    -- A write, so that WAIT on this connection waits for what the first sending wrote on another.
    redis.call('PEXPIRE', writer, ARGV[3])
    return last[2]
  end
  -- A request that was stuck in the network and arrives after the writer has gone on.
  if last[1] > sequence then return redis.error_reply('STALE call ' .. sequence .. ' after ' .. last[1]) end
end
if closed then return {now, '!closed'} end
if not known then redis.call('SADD', KEYS[2], ARGV[1]) end

local limits = redis.call('HMGET', KEYS[3], 'rate_limit', 'rate_period_ms', 'max_backlog')
local rate, period, backlog = tonumber(limits[1]), tonumber(limits[2]), tonumber(limits[3])
local room = math.huge
if backlog then
  room = backlog - redis.call('ZCARD', schedule)
  for n = 5, 8 do room = room - redis.call('XLEN', KEYS[n]) end
end

-- The log holds the times of the last `rate` accepted tasks, newest first: exact in every window.
local function refusal()
  if room <= 0 then return '!full' end
  local oldest = rate and tonumber(redis.call('LINDEX', rate_log, rate - 1))
  -- An `oldest` in the future means that the clock was set back: it says nothing.
  if oldest and oldest <= now and now < oldest + period then
    return string.format('!rate %.0f', oldest + period - now)
  end
end

local earliest
local function accept(letter, due, fields)
  room = room - 1
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

-- What a key has brought: nil where it is new. It comes before the limits: no second task is made.
local function first_of(record, digest)
  local first = redis.call('GET', record)
  if not first then return nil end
  local same = string.sub(first, 1, 16) == digest
  return same and '=' .. string.match(first, ':(.*)$', 17) or '!conflict ' .. string.sub(first, 17)
end

local reply, accepted, n, record = {now}, 0, 5, 11
local limited = rate or backlog
while n <= #ARGV do
  -- Nearly every task: ready now, with nothing but its payload, of a type without limits.
  while not limited and streams[ARGV[n]] do
    reply[#reply + 1] = ARGV[n] .. redis.call('XADD', streams[ARGV[n]], '*', 'p', ARGV[n + 1])
    accepted = accepted + 1
    n = n + 2
  end
  if n > #ARGV then break end
  local head, fields = ARGV[n], {'p', ARGV[n + 1]}
  n = n + 2
  local letter, due, digest, window = head, nil, nil, ''
  if #head > 1 then
    local sign, ms, pairs_
    letter, sign, ms, pairs_, window = string.match(head, '^([hnl])([+@]?)(%d*)/?(%d*)#?(%d*)$')
    due = tonumber(ms)
    if sign == '+' then due = now + due end
    for _ = 1, tonumber(pairs_) or 0 do
      local value = ARGV[n + 1]
      -- A lifetime counts from when the task is due.
      if ARGV[n] == 'x' then value = string.format('%.0f', math.max(due or now, now) + tonumber(value)) end
      fields[#fields + 1] = ARGV[n]
      fields[#fields + 1] = value
      n = n + 2
    end
    if window ~= '' then
      digest, record, n = ARGV[n], record + 1, n + 1
    end
  end
  local answer = digest and first_of(KEYS[record], digest) or refusal()
  if not answer then
    answer = accept(letter, due, fields)
    accepted = accepted + 1
    if digest then redis.call('SET', KEYS[record], digest .. ARGV[1] .. ':' .. answer, 'PX', window) end
  end
  reply[#reply + 1] = answer
end

if accepted > 0 then
  redis.call('HINCRBY', counters, 'accepted', accepted)
  if rate then
    redis.call('LTRIM', rate_log, 0, rate - 1)
    redis.call('PEXPIRE', rate_log, period)
  end
end
redis.call('SET', writer, cmsgpack.pack({sequence, reply}), 'PX', ARGV[3])
if earliest then
  local head = redis.call('ZRANGE', schedule, 0, 0, 'WITHSCORES')
  if tonumber(head[2]) >= earliest then redis.call('PUBLISH', ARGV[4], ARGV[1]) end
end
return reply
