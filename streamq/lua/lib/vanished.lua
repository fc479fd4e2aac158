-- vanished(id, priority, stamp, owner): the dead letter for a task whose entry something else deleted while a
-- worker held it.
local function vanished(id, priority, stamp, owner)
  local why = cjson.encode({
    attempt = 0, at_ms = tonumber(stamp), worker = owner, error = 'EntryDeleted', traceback = '',
    message = 'something else deleted the entry while a worker held it'})
  return {'vanished', priority, stamp, {'i', id, 'f', '[' .. why .. ']'}, 'vanished'}
end
