#!lua flags=allow-oom
-- reclaim: take abandoned deliveries of one stream back: as new entries, or dead past the limit.
--
-- The new entry is what fences the old worker: its delivery no longer exists. A task that lost all but
-- one of the deliveries it may lose goes to the stream of suspects, of which a worker runs one at a
-- time: a task that kills its worker reaches its limit alone.
-- `expected_ms` is where the caller expects the server's clock (0: no idea): idle times are wall-clock
-- times, so after a jump nothing is touched and the caller must stamp the leases anew.
-- KEYS policy stream suspect index dead letters counters cancels waiters gone groups
-- ARGV group letter claimer cursor limit expected_ms default_lease_ms default_max_lost done
-- Returns {next cursor, now_ms, returned, dead, cancelled} or {'skew', now_ms}
local stream, suspect, index, dead, letters = KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local counters, cancels, waiters, gone = KEYS[7], KEYS[8], KEYS[9], KEYS[10]
local group, letter, claimer, cursor, done = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[9]
local limit, expected = tonumber(ARGV[5]), tonumber(ARGV[6])

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local stamp = string.format('%.0f', now)
local policy = redis.call('HMGET', KEYS[1], 'lease_ms', 'max_lost')
-- A stored value that no app can have written counts as none.
local function whole(value, least, otherwise)
  local number = tonumber(value)
  if number and number >= least and number < 1e15 then return math.floor(number) end
  return tonumber(otherwise)
end
local lease, max_lost = whole(policy[1], 200, ARGV[7]), whole(policy[2], 1, ARGV[8])
if expected > 0 and math.abs(now - expected) > math.max(1000, lease / 4) then return {'skew', now} end

-- Who held them: XAUTOCLAIM overwrites it. It looks at ten times `limit` deliveries at most, so do we.
local owners = {}
for _, row in ipairs(redis.call('XPENDING', stream, group, cursor, '+', limit * 10)) do
  owners[row[1]] = row[2]
end

local function changed(fields, changes)
  local out = {}
  for n = 1, #fields, 2 do
    if changes[fields[n]] == nil then
      out[#out + 1] = fields[n]
      out[#out + 1] = fields[n + 1]
    end
  end
  for name, value in pairs(changes) do
    out[#out + 1] = name
    out[#out + 1] = value
  end
  return out
end

local function ended(id, op)
  redis.call('HDEL', index, id)
  redis.call('HDEL', cancels, id)
  if redis.call('ZREM', waiters, id) == 1 then redis.call('PUBLISH', done .. id, op) end
end

local function with_loss(failures, attempt, owner)
  local loss = cjson.encode({
    attempt = attempt, at_ms = now, worker = owner or 'unknown', error = 'WorkerLost', traceback = '',
    message = 'the worker stopped renewing its lease while it held the task'})
  if not string.match(failures or '', '^%[.+%]$') then return '[' .. loss .. ']' end
  return string.sub(failures, 1, -2) .. ',' .. loss .. ']'
end

local returned, buried, cancelled = 0, 0, 0
local function take_back(entry, fields)
  local have = {}
  for n = 1, #fields, 2 do have[fields[n]] = fields[n + 1] end
  local id, lost = have.i or letter .. entry, (tonumber(have.l) or 0) + 1
  local priority = letter ~= 's' and letter or (have.q == 'h' or have.q == 'l') and have.q or 'n'
  local attempt = (tonumber(have.a) or 0) + 1
  fields = changed(fields, {i = id, l = tostring(lost), f = with_loss(have.f, attempt, owners[entry])})
  if redis.call('HEXISTS', cancels, id) == 1 then
    redis.call('ZADD', gone, stamp, 'x' .. id)
    cancelled = cancelled + 1
    ended(id, 'x')
  elseif lost >= max_lost or #fields > 1000 then
    -- Nobody's task has so many fields, and Lua could not append it.
    local reason = #fields > 1000 and 'undecodable' or 'lost'
    redis.call('ZADD', dead, stamp, id)
    redis.call('HSET', letters, id, cmsgpack.pack({reason, priority, stamp, fields, reason}))
    redis.call('ZADD', KEYS[11], 0, reason .. ' ' .. stamp .. ' ' .. id)
    buried = buried + 1
    ended(id, 'd')
  else
    local target, mark = stream, letter
    if lost >= max_lost - 1 then
      target, mark = suspect, 's'
      fields = changed(fields, {q = priority})
    end
    redis.call('HSET', index, id, mark .. redis.call('XADD', target, '*', unpack(fields)))
    returned = returned + 1
  end
end

local claimed = redis.call('XAUTOCLAIM', stream, group, claimer, lease, cursor, 'COUNT', limit)
local entries = {}
for _, entry in ipairs(claimed[2]) do
  take_back(entry[1], entry[2])
  entries[#entries + 1] = entry[1]
end
if #entries > 0 then
  redis.call('XACK', stream, group, unpack(entries))
  redis.call('XDEL', stream, unpack(entries))
  local counts = {reclaimed = #entries, started = #entries, dead = buried, cancelled = cancelled}
  for name, value in pairs(counts) do
    if value > 0 then redis.call('HINCRBY', counters, name, value) end
  end
end
return {claimed[1], now, returned, buried, cancelled}
