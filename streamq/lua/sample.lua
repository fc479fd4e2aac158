#!lua flags=allow-oom
-- sample: add the growth of the counters since the last sample to the rollups, and store the backlog.
--
-- Handles several types of one shard in one call. Any number of daemons may sample: each adds only what is
-- new. If no daemon sampled for longer than a rollup covers, that growth is in no rollup of that kind. Registration
-- samples a new type, with no counts. One that is only sent by name and was never sampled began after the daemon's round
-- before, `new_gap` ms ago; -1 if there was none.
-- USES clock
-- KEYS (counters sampled schedule lanes dead high normal low suspect minute quarter)...
-- ARGV minute_ttl_ms quarter_ttl_ms new_gap names...
-- Returns {ms since the last sample, or -1, for each type}
local now = clock()
local names = {}
for n = first_arg, #ARGV do names[#names + 1] = ARGV[n] end

local function add(key, ttl, sizes, grown)
  redis.call('HSET', key, 'backlog', sizes.backlog, 'letters', sizes.letters)
  for name, number in pairs(grown) do redis.call('HINCRBY', key, name, number) end
  redis.call('PEXPIRE', key, ttl)
end

local function sizes_of(of)
  local backlog = redis.call('ZCARD', of.schedule) + redis.call('ZCARD', of.lanes)
  for _, stream in ipairs({of.high, of.normal, of.low, of.suspect}) do
    backlog = backlog + redis.call('XLEN', stream)
  end
  return {backlog = backlog, letters = redis.call('ZCARD', of.dead)}
end

local function sample(of)
  local values = redis.call('HMGET', of.counters, unpack(names))
  local before = redis.call('HMGET', of.sampled, 'at', unpack(names))
  local gap = before[1] and now - tonumber(before[1]) or -1
  local sizes, grown, noted = sizes_of(of), {}, {'at', string.format('%.0f', now)}
  for n, name in ipairs(names) do
    local growth = (tonumber(values[n]) or 0) - (tonumber(before[n + 1]) or 0)
    if growth > 0 then grown[name] = string.format('%.0f', growth) end
    noted[#noted + 1] = name
    noted[#noted + 1] = values[n] or 0
  end
  local since = before[1] and gap or tonumber(new_gap)
  add(of.minute, minute_ttl_ms, sizes, since >= 0 and since <= 90000 and grown or {})
  add(of.quarter, quarter_ttl_ms, sizes, since >= 0 and since <= 1200000 and grown or {})
  redis.call('HSET', of.sampled, unpack(noted))
  return gap
end

local gaps = {}
for _, of in ipairs(each) do gaps[#gaps + 1] = sample(of) end
return gaps
