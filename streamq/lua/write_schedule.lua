#!lua flags=allow-oom
-- write_schedule: store, change or remove a schedule, if it is as the caller has seen it.
--
-- `revision` is what the caller saw, 0 for none. An empty state removes the schedule; an empty definition leaves
-- the stored one with its payload. Without `due` nothing follows. Daemons are woken where it is due earlier than
-- they know.
-- USES note
-- KEYS schedules schedules_due
-- ARGV name revision state definition payload due wake what action about
-- Returns 1, or 0 where it has changed meanwhile
local state_of, payload_of, waiting = name .. ':state', name .. ':payload', name .. ':waiting'
local raw = redis.call('HGET', schedules, state_of)
local good, before = pcall(cjson.decode, raw or '')
-- What is no state of ours may be written over.
local seen = good and type(before) == 'table' and before.revision
if type(seen) ~= 'number' or seen % 1 ~= 0 or seen < 0 or seen >= 2 ^ 53 then seen = 0 end
if seen ~= tonumber(revision) then return 0 end
if state == '' then
  redis.call('HDEL', schedules, name, state_of, payload_of)
else
  redis.call('HSET', schedules, state_of, state)
  if definition ~= '' then redis.call('HSET', schedules, name, definition, payload_of, payload) end
end
if due == '' then
  redis.call('ZREM', schedules_due, name, waiting)
else
  redis.call('ZADD', schedules_due, due, name)
  local head = redis.call('ZRANGE', schedules_due, 0, 0, 'WITHSCORES')
  if tonumber(head[2]) >= tonumber(due) then redis.call('PUBLISH', wake, what) end
end
note(1)
return 1
