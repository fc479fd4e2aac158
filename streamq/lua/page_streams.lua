#!lua flags=no-writes,allow-stale
-- page_streams: a page of ready or running tasks of one type, stream by stream, oldest entry first.
--
-- Ready is what the group has not delivered yet; running is what is pending.
-- USES group_of later shortened streams
-- KEYS
-- ARGV group state after limit
-- Returns {next cursor or '', {{place, consumer, idle_ms, {fields, payload truncated...}}...}}; a place is a
-- letter and an entry
local limit = tonumber(limit)
local rows = {}
local function ready(stream, letter, from)
  local about = group_of(stream)
  local last = about and about['last-delivered-id']
  if last and (from == '' or later(last, from)) then from = last end
  for _, entry in ipairs(redis.call('XRANGE', stream, from == '' and '-' or '(' .. from, '+', 'COUNT', limit - #rows)) do
    rows[#rows + 1] = {letter .. entry[1], '', 0, shortened(entry[2], 600)}
    if budget <= 0 then return end
  end
end

local function running(stream, letter, from)
  local pending = redis.pcall('XPENDING', stream, group, from == '' and '-' or '(' .. from, '+', limit - #rows)
  for _, row in ipairs(pending.err and {} or pending) do
    local entry = redis.call('XRANGE', stream, row[1], row[1])[1]
    rows[#rows + 1] = {letter .. row[1], row[2], row[3], shortened(entry and entry[2] or {}, 600)}
    if budget <= 0 then return end
  end
end

local begun = after == ''
for _, letter in ipairs({'h', 'n', 'l', 's'}) do
  local from = ''
  if not begun and string.sub(after, 1, 1) == letter then
    begun = true
    from = string.sub(after, 2)
  end
  if begun and #rows < limit and budget > 0 then
    if state == 'ready' then ready(streams[letter], letter, from) else running(streams[letter], letter, from) end
  end
end
local full = #rows >= limit or budget <= 0
return {full and #rows > 0 and rows[#rows][1] or '', rows}
