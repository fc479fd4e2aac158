#!lua flags=allow-oom
-- trim: remove old ends (cancelled, expired), overdue waiters and long silent workers; and set the scores of rows
-- of `lanes` and `groups` to 0 that another program has changed, as such a row hides others.
--
-- Handles several types of one shard in one call. `limit` applies to the whole call. Lists know of results
-- for eight days; a result that is kept longer is found by its id. A key of the wrong type is skipped: the
-- audit reports it, and it prevents no other from being trimmed.
-- USES clock level
-- KEYS workers heartbeats (gone waiters buckets lanes groups policy)...
-- ARGV gone_ms silent_ms limit
-- Returns how many rows were removed or changed
local now = clock()
local left = tonumber(limit)

local function remove(key, before)
  local members = redis.pcall(
    'ZRANGE', key, '-inf', string.format('%.0f', before), 'BYSCORE', 'LIMIT', 0, left)
  if members.err then return {} end
  if #members > 0 then left = left - redis.call('ZREM', key, unpack(members)) end
  return members
end

local silent = remove(workers, now - tonumber(silent_ms))
if #silent > 0 then redis.pcall('HDEL', heartbeats, unpack(silent)) end
for _, of in ipairs(each) do
  remove(of.gone, now - tonumber(gone_ms))
  remove(of.waiters, now)
  left = left - level_lanes(of.lanes, of.policy, left)
  left = left - level(of.groups, left)
  redis.pcall('ZREMRANGEBYSCORE', of.buckets, '-inf', math.floor(now / 60000) - 11520)
end
return limit - left
