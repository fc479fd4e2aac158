#!lua flags=allow-oom
-- sweep: remove a stream's consumers that hold nothing, are idle and send no heartbeat.
-- USES clock
-- KEYS stream workers
-- ARGV group idle_ms limit
-- Returns how many were removed
local now = clock()
local idle_ms, limit, removed = tonumber(idle_ms), tonumber(limit), 0
local consumers = redis.pcall('XINFO', 'CONSUMERS', stream, group)
if consumers.err then return 0 end
for _, row in ipairs(consumers) do
  if removed >= limit then break end
  local about = {}
  for n = 1, #row, 2 do about[row[n]] = row[n + 1] end
  -- A `workers` key that cannot be read counts as no heartbeat: the audit reports the key.
  local told = redis.pcall('ZSCORE', workers, about.name)
  local beat = type(told) == 'string' and tonumber(told) or 0
  if about.pending == 0 and about.idle >= idle_ms and now - beat >= idle_ms then
    redis.call('XGROUP', 'DELCONSUMER', stream, group, about.name)
    removed = removed + 1
  end
end
return removed
