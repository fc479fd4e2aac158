#!lua flags=no-writes,allow-stale
-- audit_flow: check the books of a flow at one instant, and name the tasks of its released nodes, so many in one call.
-- KEYS flow flow_states
-- ARGV flow_id first limit
-- Returns {state ('' if there is no record), what is wrong with its numbers or '', the node to go on from or -1, {number, type,
-- local id}...}
local names = {'state', 'nodes', 'waiting', 'released', 'done', 'skipped', 'ready', 'maps', 'grown'}
local told = {}
local found = redis.call('HMGET', flow, unpack(names))
for n, name in ipairs(names) do told[name] = found[n] or nil end
if not told.state or told.state == 'building' then return {told.state or '', '', -1} end
local states = redis.pcall('GET', flow_states)
if type(states) ~= 'string' then return {told.state, 'it has no states', -1} end

local counts = {waiting = 0, released = 0, done = 0, skipped = 0, ready = 0, nodes = #states}
local book = {w = 'waiting', q = 'waiting', r = 'released', c = 'done', d = 'done', x = 'done', e = 'done', s = 'skipped'}
for letter, name in pairs(book) do
  local _, number = string.gsub(states, letter, '')
  counts[name] = counts[name] + number
  if letter == 'q' then counts.ready = number end
end
local wrong = {}
for _, name in ipairs(names) do
  if counts[name] and tonumber(told[name]) ~= counts[name] then
    wrong[#wrong + 1] = name .. ' ' .. (told[name] or 'missing') .. ', counted ' .. counts[name]
  end
end

local maps = {}
for number, from, count in string.gmatch(told.maps or '', '(%d+):(%d+):(%d+)') do
  maps[#maps + 1] = {number, tonumber(from), tonumber(count)}
end
local function map_of(n)
  local low, high = 1, #maps
  while low < high do
    local middle = math.ceil((low + high) / 2)
    if maps[middle][2] <= n then low = middle else high = middle - 1 end
  end
  local map = maps[low]
  if map and n >= map[2] and n < map[2] + map[3] then return map end
end

local function json(name)
  local good, data = pcall(cjson.decode, redis.call('HGET', flow, name) or '')
  return good and type(data) == 'table' and data or {}
end

local function grown(n) return string.find(told.grown or '', ' ' .. n .. ' ', 1, true) ~= nil end

-- The type and the letter of a node's task; nil for one that has none, or cannot be read.
local function task_of(n)
  local map = map_of(n)
  if grown(n) then return nil end
  if map and grown(map[1]) then
    map.kinds, map.each = map.kinds or json('kt' .. map[1]), map.each or redis.call('HGET', flow, 'kc' .. map[1]) or ''
    local kind = map.kinds[(string.byte(map.each, n - map[2] + 1) or 0) - 32]
    if type(kind) ~= 'table' then return nil end
    return kind[1], kind[2]
  end
  local node = json('n' .. (map and map[1] or n))
  if node.k == 'map' and not map then return nil end
  return node.t, node.l
end

local reply, at, looked = {told.state, table.concat(wrong, '; '), -1}, tonumber(first) + 1, 0
local ms, random = string.match(flow_id, '^(%d+)%-(%d+)$')
while ms do
  at = string.find(states, 'r', at, true)
  if not at then break end
  if looked >= tonumber(limit) then  -- also of nodes that cannot be read
    reply[3] = at - 1
    break
  end
  looked = looked + 1
  local name, letter = task_of(at - 1)
  if type(name) == 'string' and type(letter) == 'string' then
    reply[#reply + 1] = {at - 1, name, string.format('%s%s-10%s%06d', letter, ms, random, at - 1)}
  end
  at = at + 1
end
return reply
