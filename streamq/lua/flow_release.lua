#!lua flags=allow-oom
-- flow_release: let nodes of a flow that may run become tasks, of one type, from one page of the flow's items.
--
-- A node's task has an id that follows from the flow's, so nothing exists twice. An item is packed: head as `enqueue` takes
-- it (letter, +ms or @ms), payload, what the node needs of others, lane ('' for none), cost, then pairs of field and value.
-- The items of a map are its children's payloads, by their number in the map, whose first child has the number `first`; the
-- rest is in the record (c<map>). The dead letter of a node that is run again goes back with its history, if the caller may
-- take dead letters away; otherwise the node is left to a daemon. A node whose item is gone has died.
-- USES changed clock field lane_entered letter_in ring unlist without_held
-- KEYS flow flow_states flow_items inbox types dead letters groups counters index schedule expiring gone high normal low
-- ARGV flow_id task_type map first wake numbers...
-- Returns how many were released
local streams = {h = high, n = normal, l = low}
local now = clock()
local stamp = string.format('%.0f', now)
local ms, random = string.match(flow_id, '^(%d+)%-(%d+)$')
local released, accepted, requeued, earliest = 0, 0, 0, nil
local kept = rules_kept(redis.pcall('GET', rules))

local function unpacked(packed, read)
  local good, item = pcall(read or cmsgpack.unpack, packed or '')
  if not good or type(item) ~= 'table' or #item < 5 or #item > 900 then return nil end
  for _, value in ipairs(item) do
    if type(value) ~= 'string' then return nil end
  end
  return item
end

local common = map ~= '' and unpacked(redis.call('HGET', flow, 'c' .. map), cjson.decode)
local function item_of(number)
  local stored = redis.call('HGET', flow_items, string.format('%d', number - tonumber(first)))
  if map == '' then return unpacked(stored) end
  if not stored or not common then return nil end
  local item = {unpack(common)}
  item[2] = stored
  return item
end

local function fields_of(item, number, due)
  local fields = {'p', item[2]}
  for n = 6, #item do fields[#fields + 1] = item[n] end
  local joins = {lane = item[4] ~= '' and item[4] or nil, cost = item[5] ~= '' and item[5] or nil}
  if kept.held then without_held(kept, joins, fields) end
  for n = 1, #fields, 2 do
    if fields[n] == 'x' then
      fields[n + 1] = string.format('%.0f', math.max(due or now, now) + math.min(tonumber(fields[n + 1]) or 1e13, 1e13))
    end
  end
  for _, value in ipairs({
    'y', flow_id .. '/' .. number .. item[3], 'c', cmsgpack.pack({'f', flow_id .. ' ' .. number}), 'e', stamp})
  do
    fields[#fields + 1] = value
  end
  if joins.cost then
    fields[#fields + 1] = 'w'
    fields[#fields + 1] = joins.cost
  end
  return joins.lane and laned(fields, 'L', '0', joins.lane) or fields
end

local function scheduled_(letter, fields, id, due)
  local number, score = redis.call('HINCRBY', counters, 'sequence', 1), string.format('%.0f', due)
  redis.call('ZADD', schedule, score, string.format('%012d', number) .. letter .. cmsgpack.pack(fields))
  redis.call('HSET', index, id, string.format('d%s-%.0f', score, number))
  if not earliest or due < earliest then earliest = due end
end

local again = tonumber(redis.call('HGET', flow, 'generation')) or 0
-- Removes nothing; it is an error for a user without the right to remove.
local requeues = again == 0 or type(redis.pcall('HDEL', letters, '')) == 'number'

-- Return whether the node is released.
local function run(number)
  local item = item_of(number)
  local letter, sign, wait = string.match(item and item[1] or '', '^([hnl])([+@]?)(%d*)$')
  if not letter then
    redis.call('ZADD', inbox, stamp, flow_id .. ' ' .. number .. ' d')
    return true
  end
  local id = string.format('%s%s-10%s%06d', letter, ms, random, number)
  local buried = again > 0 and redis.call('HGET', letters, id)
  if buried and not requeues then return false end
  local old = buried and letter_in(buried)
  local due = tonumber(wait) and math.min((sign == '+' and now or 0) + tonumber(wait), now + 1e13)
  local fields = fields_of(item, number, due)
  if buried then
    if old then fields = changed(fields, {f = field(old[4], 'f'), c = field(old[4], 'c')}) end
    unlist(id, old)
    lane_opened(id, old)
    requeued = requeued + 1
  else
    accepted = accepted + 1
  end
  if again > 0 then redis.call('ZREM', gone, 'x' .. id, 'e' .. id, 'c' .. id) end
  fields[#fields + 1] = 'i'
  fields[#fields + 1] = id
  if due and due > now then
    scheduled_(letter, fields, id, due)
  elseif not lane_entered(letter, fields, id) then
    redis.call('HSET', index, id, letter .. redis.call('XADD', streams[letter], '*', unpack(fields)))
    ring(streams[letter])
  end
  local expires = field(fields, 'x')
  if expires then redis.call('ZADD', expiring, expires, id) end
  return true
end

-- Nodes that stand side by side are read and written together.
local from = first_arg
while from <= #ARGV do
  local to, first_number = from, tonumber(ARGV[from])
  while to < #ARGV and tonumber(ARGV[to + 1]) == tonumber(ARGV[to]) + 1 do to = to + 1 end
  local states = redis.call('GETRANGE', flow_states, first_number, first_number + to - from)
  local after, number = {}, 0
  for n = 1, #states do
    local state = string.sub(states, n, n)
    if state == 'q' then
      if released + number == 0 then redis.call('SADD', types, task_type) end
      if run(string.format('%d', first_number + n - 1)) then state, number = 'r', number + 1 end
    end
    after[n] = state
  end
  if number > 0 then
    redis.call('SETRANGE', flow_states, first_number, table.concat(after))
    released = released + number
  end
  from = to + 1
end
if released > 0 then
  if accepted > 0 then redis.call('HINCRBY', counters, 'accepted', accepted) end
  if requeued > 0 then redis.call('HINCRBY', counters, 'requeued', requeued) end
  redis.call('HINCRBY', flow, 'waiting', -released)
  redis.call('HINCRBY', flow, 'released', released)
  local ready = redis.call('HINCRBY', flow, 'ready', -released)
  if ready <= 0 and (redis.call('HGET', flow, 'todo') or '') == '' then redis.call('ZREM', inbox, flow_id .. ' look') end
end
gate_close()
if earliest then redis.call('PUBLISH', wake, task_type) end
return released
