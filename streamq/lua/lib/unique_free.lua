-- unique_free(what): release the lock of a unique key's digest, whichever task holds it. The task that follows the holder
-- (see the keys `unique` and `after`) gets it and becomes ready.
-- release.u(what, id): the same for end_task; a task that has lost the lock before releases nothing.
-- USES end_task scheduled identified letter_in ring streams
-- KEYS unique after index schedule
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
  redis.call('HSET', index, id, letter .. redis.call('XADD', streams[letter], '*', unpack(fields)))
  redis.call('HSET', unique, what, id)
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
