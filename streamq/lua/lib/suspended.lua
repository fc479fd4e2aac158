-- suspended(item, memo, due): when a task is to run again that sleeps until then, or waits for a signal until then: nil if the
-- signal has come meanwhile. Its fields name the memo of what it waits for, in `s`. The memo says that it is suspended.
-- USES changed
-- KEYS steps
local function suspended(item, memo, due)
  item.fields = changed(item.fields, {i = item.id, l = false, q = false, s = memo})
  if string.sub(memo, 1, 5) ~= 'wait ' then return due end
  local at = item.id .. '\0' .. memo
  local until_ = string.match(redis.call('HGET', steps, at) or '', '^%?(%d*)$')
  if not until_ then return nil end
  redis.call('HSET', steps, at, '~' .. until_)
  return due
end
