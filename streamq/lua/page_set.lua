#!lua flags=no-writes,allow-stale
-- page_set: a page of a sorted set of tasks: the schedule, next due first, or dead letters or old ends,
-- newest first.
--
-- A cursor is a score, a space and the beginning of a member; that member may have been removed.
-- USES opened row_fields shortened
-- KEYS set letters
-- ARGV kind after limit
-- Returns {next cursor or '', {{member or its content...}...}}
local limit = tonumber(limit)
local backwards = kind ~= 'scheduled'
-- How many members come before this one (forwards): members with one score are sorted by their bytes.
local function position(score, member)
  local low = redis.call('ZCOUNT', set, '-inf', '(' .. score)
  local high = low + redis.call('ZCOUNT', set, score, score)
  while low < high do
    local middle = math.floor((low + high) / 2)
    local found = string.sub(redis.call('ZRANGE', set, middle, middle)[1], 1, #member)
    if found < member or (not backwards and found == member) then low = middle + 1 else high = middle end
  end
  return low
end

local first, last
local score, member = string.match(after, '^(%-?%w+) (.+)$')
if score and not tonumber(score) then score = nil end -- no score is written like that
if backwards then
  last = (score and position(score, member) or redis.call('ZCARD', set)) - 1
  first = math.max(0, last - limit + 1)
else
  first = score and position(score, member) or 0
  last = first + limit - 1
end

local rows, cursor = {}, ''
local function scheduled(row, due)
  local place = string.format('d%.0f-%d', tonumber(due), tonumber(string.match(row, '^%d+')) or 0)
  local shown = shortened(row_fields(row) or {}, 600)
  return {place, string.match(row, '%D') or '', due, shown}
end

local function dead(id, died)
  local packed = redis.call('HGET', letters, id)
  local letter = packed and opened(packed) or {'', 'n', died, {}, ''}
  return {id, letter[2], died, shortened(letter[4], 600), letter[1], letter[5] or ''}
end

local found = {}
if last >= first then
  local args = {'ZRANGE', set, first, last, 'WITHSCORES'}
  if backwards then
    local size = redis.call('ZCARD', set)
    args = {'ZRANGE', set, size - 1 - last, size - 1 - first, 'REV', 'WITHSCORES'}
  end
  found = redis.call(unpack(args))
end
local seen = 0
for n = 1, #found, 2 do
  local stamp = string.format('%.0f', tonumber(found[n + 1]))
  seen = seen + 1
  local member = kind == 'scheduled' and (string.match(found[n], '^%d+[hnl]') or string.sub(found[n], 1, 12))
  cursor = stamp .. ' ' .. (member or found[n])
  if kind == 'scheduled' then
    rows[#rows + 1] = scheduled(found[n], stamp)
  elseif kind == 'dead' then
    rows[#rows + 1] = dead(found[n], stamp)
  elseif string.sub(found[n], 1, 1) == kind then
    rows[#rows + 1] = {string.sub(found[n], 2), '', stamp, {}}
  end
  if budget <= 0 then break end
end
return {(seen >= limit or budget <= 0) and cursor or '', rows}
