-- unique_free(what): release the lock of a unique key's digest, whichever task holds it. The task that follows the holder
-- (see the keys `unique` and `after`) gets it and becomes ready, or asks its lane if it has one.
-- release.u(what, id): the same for end_task; a task that has lost the lock before releases nothing.
-- unique_enters: what has it ask its lane, in scripts with a gate (see unique_enter). In others it is due at once, and
-- promote has it ask.
-- USES clock end_task scheduled identified letter_in ring streams unique_claim field
-- KEYS unique after index schedule
local unique_enters
local function unique_due(id, number, letter, fields)
  local now = string.format('%.0f', (clock()))
  redis.call('ZADD', schedule, now, string.format('%012d', number) .. letter .. cmsgpack.pack(fields))
  redis.call('HSET', index, id, string.format('d%s-%.0f', now, number))
end

local function unique_free(what)
  local id = redis.call('HGET', after, what)
  redis.call('HDEL', after, what)
  local due, number = scheduled(id and (redis.call('HGET', index, id) or id) or '')
  local row = due and row_of(due, number)
  if not row then return redis.call('HDEL', unique, what) end
  local letter, fields = string.match(row, '%D'), row_fields(row)
  local sound = fields and #fields % 2 == 0 and #fields <= 1000 and all_text(fields)
  if not sound or not streams[letter] or letter == 's' then
    redis.call('ZADD', schedule, 'XX', 1, row)  -- promote buries it
    return redis.call('HDEL', unique, what)
  end
  identified(fields, id)
  redis.call('ZREM', schedule, row)
  redis.call('HSET', unique, what, id)
  local _, _, asks = unique_claim(field(fields, 'c'))
  if asks then return (unique_enters or unique_due)(id, number, letter, fields) end
  redis.call('HSET', index, id, letter .. redis.call('XADD', streams[letter], '*', unpack(fields)))
  ring(streams[letter])
end

function release.u(what, id)
  if type(what) ~= 'string' then return end
  if redis.call('HGET', unique, what) == id then
    unique_free(what)
  elseif redis.call('HGET', after, what) == id then
    redis.call('HDEL', after, what)
  end
end
