#!lua flags=allow-oom
-- repair_pending: end a delivery whose entry was deleted behind our back: a dead letter keeps its name.
--
-- While its worker renews the lease it may settle it yet, so only one that is idle for a lease is ended.
-- The task was accepted and will never complete: as a dead letter it balances the books (dead + 1).
-- KEYS stream policy index dead letters counters cancels waiters groups
-- ARGV group place id done default_lease_ms
-- Returns ended, held (by a worker that is alive) or gone (nothing to do any more)
local entry = string.sub(place, 2)
local held = redis.pcall('XPENDING', stream, group, entry, entry, 1)
if held.err or #held == 0 or #redis.call('XRANGE', stream, entry, entry) > 0 then return 'gone' end
if id ~= place and redis.call('HGET', index, id) ~= place then return 'gone' end
local lease = redis.pcall('HGET', policy, 'lease_ms')
lease = type(lease) == 'string' and tonumber(lease) or tonumber(default_lease_ms)
if held[1][3] < lease then return 'held' end
local time = redis.call('TIME')
local stamp = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
local letter = string.sub(place, 1, 1)

redis.call('XACK', stream, group, entry)
if redis.call('HEXISTS', letters, id) == 0 then
  redis.call('ZADD', dead, stamp, id)
  local priority = letter == 's' and 'n' or letter
  local why = cjson.encode({
    attempt = 0, at_ms = tonumber(stamp), worker = held[1][2], error = 'EntryDeleted', traceback = '',
    message = 'something else deleted the entry while a worker held it'})
  local fields = {'i', id, 'f', '[' .. why .. ']'}
  redis.call('HSET', letters, id, cmsgpack.pack({'vanished', priority, stamp, fields, 'vanished'}))
  redis.call('ZADD', groups, 0, 'vanished ' .. stamp .. ' ' .. id)
  redis.call('HINCRBY', counters, 'dead', 1)
end
redis.call('HDEL', index, id)
redis.call('HDEL', cancels, id)
if redis.call('ZREM', waiters, id) == 1 then redis.call('PUBLISH', done .. id, 'd') end
redis.call('HINCRBY', counters, 'repaired', 1)
return 'ended'
