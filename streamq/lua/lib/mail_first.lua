-- mail_first(signal): the first value of this name in the mailbox of a task; nil if there is none.
-- mail_drop(signal): remove it.
--
-- A mailbox has the signals that came before their wait, each name in the order in which they came. It is a hash: under a
-- signal's name the numbers of its first and its last value; under name, NUL and number a value; under '' the keys of the
-- last calls, of 16 characters each, so that one which is sent again is known. It lives for a time after the last signal, and
-- for an hour if it has no value: that is how long a call may be sent again.
-- KEYS mail
local function mail_range(signal)
  local first, last = string.match(redis.call('HGET', mail, signal) or '', '^(%d+) (%d+)$')
  return tonumber(first), tonumber(last)
end

local function mail_empty() return #redis.call('HKEYS', mail) <= 1 end

local function mail_first(signal)
  local first = mail_range(signal)
  return first and redis.call('HGET', mail, string.format('%s\0%.0f', signal, first)) or nil
end

local function mail_drop(signal)
  local first, last = mail_range(signal)
  redis.call('HDEL', mail, string.format('%s\0%.0f', signal, first))
  if first ~= last then return redis.call('HSET', mail, signal, string.format('%.0f %.0f', first + 1, last)) end
  redis.call('HDEL', mail, signal)
  if mail_empty() then redis.call('PEXPIRE', mail, 3600000) end
end
