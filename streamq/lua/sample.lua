#!lua flags=allow-oom
-- sample: note in the rollups what the counters have grown by since the last sample, and the backlog.
--
-- For several types of one shard in one call: ten keys each. Any number of daemons may sample: each adds
-- what is new. What happened while nobody sampled for longer than a rollup covers is in no rollup of that
-- kind.
-- KEYS counters sampled schedule dead high normal low suspect minute quarter more...
-- ARGV minute_ttl_ms quarter_ttl_ms names...
-- Returns {ms since the last sample, or -1, for each type}
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local names = {}
for n = 3, #ARGV do names[#names + 1] = ARGV[n] end

local function add(key, ttl, sizes, grown)
  redis.call('HSET', key, 'backlog', sizes.backlog, 'letters', sizes.letters)
  for name, number in pairs(grown) do redis.call('HINCRBY', key, name, number) end
  redis.call('PEXPIRE', key, ttl)
end

local function sizes_of(first)
  local backlog = redis.call('ZCARD', KEYS[first + 2])
  for n = first + 4, first + 7 do backlog = backlog + redis.call('XLEN', KEYS[n]) end
  return {backlog = backlog, letters = redis.call('ZCARD', KEYS[first + 3])}
end

local function sample(first)
  local counters, sampled = KEYS[first], KEYS[first + 1]
  local values = redis.call('HMGET', counters, unpack(names))
  local before = redis.call('HMGET', sampled, 'at', unpack(names))
  local gap = before[1] and now - tonumber(before[1]) or -1
  local sizes, grown, noted = sizes_of(first), {}, {'at', string.format('%.0f', now)}
  for n, name in ipairs(names) do
    local growth = (tonumber(values[n]) or 0) - (tonumber(before[n + 1]) or 0)
    if growth > 0 then grown[name] = string.format('%.0f', growth) end
    noted[#noted + 1] = name
    noted[#noted + 1] = values[n] or 0
  end
  add(KEYS[first + 8], ARGV[1], sizes, gap >= 0 and gap <= 90000 and grown or {})
  add(KEYS[first + 9], ARGV[2], sizes, gap >= 0 and gap <= 1200000 and grown or {})
  redis.call('HSET', sampled, unpack(noted))
  return gap
end

local gaps = {}
for first = 1, #KEYS, 10 do gaps[#gaps + 1] = sample(first) end
return gaps
