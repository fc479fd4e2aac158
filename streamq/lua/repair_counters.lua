#!lua flags=allow-oom
-- repair_counters: reset counters that are not numbers, computed from the rest of the books.
--
-- The books balance: accepted + adopted = existing tasks + ended tasks. So a single unknown counter follows
-- from the others. If there are several, what cannot be distinguished counts as completed, or starts from 0;
-- the others start from 0. A key of another type is replaced. A sequence number must be new, and the ms since
-- 1970 are.
-- KEYS schedule dead counters high normal low suspect lanes
-- ARGV write names...
-- Returns rows of {name, old value, new value ('' if removed)}; first the key itself, if it was of another
-- type. `write` 0: only report
local write = write == '1'
local kind = redis.call('TYPE', counters).ok
local there = redis.call('ZCARD', schedule) + redis.call('ZCARD', dead) + redis.call('ZCARD', lanes)
for _, stream in ipairs({high, normal, low, suspect}) do there = there + redis.call('XLEN', stream) end
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))

local function sound(name, value)
  if name == 'sequence' then return string.find(value, '^%d+$') and #value <= 15 end
  return string.find(value, '^-?%d+$') and #value <= 17
end

local have, bad, held = {}, {}, {}
if kind == 'hash' then
  local flat = redis.call('HGETALL', counters)
  for n = 1, #flat, 2 do
    if sound(flat[n], flat[n + 1]) then
      have[flat[n]] = tonumber(flat[n + 1])
    else
      bad[#bad + 1] = flat[n]
      held[flat[n]] = string.sub(flat[n + 1], 1, 40)
    end
  end
elseif kind ~= 'none' then
  for n = first_arg, #ARGV do
    bad[#bad + 1] = ARGV[n]
    held[ARGV[n]] = ''
  end
end
if #bad == 0 then return {} end

local function of(name) return have[name] or 0 end
local missing = of('accepted') + of('adopted') - there
local ends = {'completed', 'cancelled', 'expired', 'purged', 'vanished'}
for _, name in ipairs(ends) do missing = missing - of(name) end
local now_is = {}
local function settle(names, number)
  for _, name in ipairs(names) do
    if held[name] and number > 0 then
      now_is[name] = string.format('%.0f', number)
      return
    end
  end
end
settle(ends, missing)
settle({'accepted', 'adopted'}, -missing)
if held.sequence then now_is.sequence = now end

local rows = {}
if kind ~= 'hash' then
  rows[1] = {counters, kind, ''}
  if write then redis.call('DEL', counters) end
end
for _, name in ipairs(bad) do
  if write and now_is[name] then
    redis.call('HSET', counters, name, now_is[name])
  elseif write and kind == 'hash' then
    redis.call('HDEL', counters, name)
  end
  if kind == 'hash' or now_is[name] then rows[#rows + 1] = {name, held[name], now_is[name] or ''} end
end
if write and sound('repaired', redis.call('HGET', counters, 'repaired') or '0') then
  redis.call('HINCRBY', counters, 'repaired', #rows)
end
return rows
