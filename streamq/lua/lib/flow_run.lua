-- flow_run(again): return two functions: run(number) lets a node of a flow become a task, and returns whether it is
-- released; finish() writes what that changed of the type, once, behind the last. again: the flow's generation.
--
-- The nodes are of one type, one page of items and one map, which the arguments name. A node's task has an id that follows
-- from the flow's, so nothing exists twice. An item is packed: head as `enqueue` takes it (letter, +ms or @ms), payload, what
-- the node needs of others, lane ('' for none), cost, then pairs of field and value. The items of a map are its children's
-- payloads, by their number in the map, whose first child has the number `first`; the rest is in the record (c<map>). The
-- dead letter of a node that is run again goes back with its history, if the caller may take dead letters away; otherwise
-- the node is left to a daemon. A node whose item is gone has died.
-- USES changed clock field lane_entered letter_in ring unlist without_held
-- KEYS flow flow_items inbox types dead letters groups counters index schedule expiring gone high normal low
-- ARGV flow_id task_type map first wake
local function flow_item(packed, read)
  local good, item = pcall(read or cmsgpack.unpack, packed or '')
  if not good or type(item) ~= 'table' or #item < 5 or #item > 900 then return nil end
  for _, value in ipairs(item) do
    if type(value) ~= 'string' then return nil end
  end
  return item
end

local function flow_run(again)
  local streams = {h = high, n = normal, l = low}
  local now = clock()
  local stamp = string.format('%.0f', now)
  local ms, random = string.match(flow_id, '^(%d+)%-(%d+)$')
  local released, accepted, requeued, earliest = 0, 0, 0, nil
  local kept = rules_kept(redis.pcall('GET', rules))
  -- Children that a handler has returned have items of their own.
  local shared = map ~= '' and redis.call('HGET', flow, 'c' .. map)
  local common = shared and flow_item(shared, cjson.decode)
  -- Removes nothing; it is an error for a user without the right to remove.
  local requeues = again == 0 or type(redis.pcall('HDEL', letters, '')) == 'number'

  local function item_of(number)
    local stored = redis.call('HGET', flow_items, string.format('%d', number - tonumber(first)))
    if not shared then return flow_item(stored) end
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

  -- A node that went on as a new run runs again with the arguments of the one that failed, which need nothing of others.
  local function going_on(fields, old, number)
    local changes = {y = string.format('%s/%d', flow_id, number)}
    for _, name in ipairs({'p', 'n', 'm', 'V'}) do changes[name] = field(old, name) or false end
    return changed(fields, changes)
  end

  local function scheduled(letter, fields, id, due)
    local number, score = redis.call('HINCRBY', counters, 'sequence', 1), string.format('%.0f', due)
    redis.call('ZADD', schedule, score, string.format('%012d', number) .. letter .. cmsgpack.pack(fields))
    redis.call('HSET', index, id, string.format('d%s-%.0f', score, number))
    if not earliest or due < earliest then earliest = due end
  end

  local function run(number)
    if released == 0 then redis.call('SADD', types, task_type) end
    local item = item_of(number)
    local letter, sign, wait = string.match(item and item[1] or '', '^([hnl])([+@]?)(%d*)$')
    if not letter then
      redis.call('ZADD', inbox, stamp, string.format('%s %d d', flow_id, number))
      released = released + 1
      return true
    end
    local id = string.format('%s%s-10%s%06d', letter, ms, random, number)
    local buried = again > 0 and redis.call('HGET', letters, id)
    if buried and not requeues then return false end
    local old = buried and letter_in(buried)
    local due = tonumber(wait) and math.min((sign == '+' and now or 0) + tonumber(wait), now + 1e13)
    local fields = fields_of(item, string.format('%d', number), due)
    if buried then
      if old then fields = changed(fields, {f = field(old[4], 'f'), c = field(old[4], 'c')}) end
      if old and field(old[4], 'n') then fields = going_on(fields, old[4], number) end
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
      scheduled(letter, fields, id, due)
    elseif not lane_entered(letter, fields, id) then
      redis.call('HSET', index, id, letter .. redis.call('XADD', streams[letter], '*', unpack(fields)))
      ring(streams[letter])
    end
    local expires = field(fields, 'x')
    if expires then redis.call('ZADD', expiring, expires, id) end
    released = released + 1
    return true
  end

  local function finish()
    if accepted > 0 then redis.call('HINCRBY', counters, 'accepted', accepted) end
    if requeued > 0 then redis.call('HINCRBY', counters, 'requeued', requeued) end
    gate_close()
    if earliest then redis.call('PUBLISH', wake, task_type) end
  end

  return run, finish
end
