#!lua flags=no-writes
-- flow_behind: what has waited in the inbox for so long that nobody else will take it out, and timers whose time has come.
-- KEYS flows inbox
-- ARGV patience_ms offset most
-- Returns {whether the shard has flows, now in ms, rows...}, the oldest rows first
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
local until_ms = string.format('%.0f', now - patience_ms)
local rows = redis.call('ZRANGE', inbox, '-inf', until_ms, 'BYSCORE', 'LIMIT', offset, most)
for _, row in ipairs(redis.call('ZRANGE', inbox, '(' .. until_ms, now, 'BYSCORE', 'LIMIT', 0, most)) do
  if string.sub(row, -2) == ' t' then rows[#rows + 1] = row end
end
return {redis.call('EXISTS', flows), now, unpack(rows)}
