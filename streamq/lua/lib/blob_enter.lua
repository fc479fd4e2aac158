-- blob_enter(task, answer): the blob of an accepted task stays until its end; that of a call that created and changed no
-- task may go at once.
-- blob_read(task): read which blob a new task claims (`blob` of what it joins); false if that is malformed.
-- blob_wrong: what to answer, before the first write, where `blobs` cannot take the blob of a task that was read.
-- blob_moved(before, fields): the arguments of a waiting task are replaced: its blob may go, the new one stays.
-- See blob_claim for `blobs`.
-- USES blob_claims clock
-- KEYS blobs
local BLOB_LIVES, blob_used, blob_wrong = '9000000000000000', {}, nil
local function blob_stays(name)
  redis.call('ZADD', blobs, BLOB_LIVES, name)
  blob_used[name] = true
end

local function blob_read(task)
  local name = task.joins.blob
  if name == nil then return true end
  if type(name) ~= 'string' or name == '' or #name > 400 then return false end
  task.blob = name
  local told = redis.pcall('ZCARD', blobs)
  if type(told) == 'table' and told.err then
    blob_wrong = redis.error_reply(
      'WRONGTYPE ' .. blobs .. ' is no sorted set: somebody overwrote it; nothing was written')
  end
  table.insert(task.claims, 'b')
  table.insert(task.claims, name)
  return true
end

local function blob_moved(before, fields)
  local old, new = blob_claims(before), blob_claims(fields)
  for name in pairs(new) do blob_stays(name) end
  for name in pairs(old) do
    if not new[name] then redis.pcall('ZADD', blobs, 'XX', string.format('%.0f', (clock())), name) end
  end
end

local function blob_enter(task, answer)
  if not task.blob or answer == '!unjoined' then return end
  if not string.find(answer, '^[!=]') then return blob_stays(task.blob) end
  if not blob_used[task.blob] then redis.call('ZADD', blobs, string.format('%.0f', (clock())), task.blob) end
end
