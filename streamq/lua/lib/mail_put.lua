-- mail_put(signal, value, most): store a value in the mailbox of a task; false if there are as many as there may be: `most` of
-- one name, fewer of several.
-- USES mail_first
-- KEYS mail
local function mail_put(signal, value, most)
  if #redis.call('HKEYS', mail) >= most + 2 then return false end
  local first, last = mail_range(signal)
  last = (last or 0) + 1
  redis.call('HSET', mail, signal, string.format('%.0f %.0f', first or last, last),
    string.format('%s\0%.0f', signal, last), value)
  return true
end
