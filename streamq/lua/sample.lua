#!lua flags=allow-oom
-- sample: note in the rollups what the counters have grown by since the last sample, and the backlog.
--
-- Any number of daemons may sample: each adds what is new. What happened while nobody sampled for
-- longer than a rollup covers is in no rollup of that kind.
-- KEYS counters sampled schedule dead high normal low suspect minute quarter
-- ARGV minute_ttl_ms quarter_ttl_ms names...
-- Returns ms since the last sample, or -1
local counters, sampled = KEYS[1], KEYS[2]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local names = {}
for n = 3, #ARGV do names[#names + 1] = ARGV[n] end
local values = redis.call('HMGET', counters, unpack(names))
local before = redis.call('HMGET', sampled, 'at', unpack(names))
local gap = before[1] and now - tonumber(before[1]) or -1
local backlog = redis.call('ZCARD', KEYS[3])
for n = 5, 8 do backlog = backlog + redis.call('XLEN', KEYS[n]) end

local function add(key, ttl, longest)
  redis.call('HSET', key, 'backlog', backlog, 'letters', redis.call('ZCARD', KEYS[4]))
  if gap >= 0 and gap <= longest then
    for n, name in ipairs(names) do
      local grown = (tonumber(values[n]) or 0) - (tonumber(before[n + 1]) or 0)
      if grown > 0 then redis.call('HINCRBY', key, name, string.format('%.0f', grown)) end
    end
  end
  redis.call('PEXPIRE', key, ttl)
end

add(KEYS[9], ARGV[1], 90000)
add(KEYS[10], ARGV[2], 1200000)
redis.call('HSET', sampled, 'at', string.format('%.0f', now))
for n, name in ipairs(names) do redis.call('HSET', sampled, name, values[n] or 0) end
return gap
