#!lua
-- take_signal: the signal that a running task waits for; or note that it waits, and until when.
--
-- What was decided stays: a wait that got its signal, or for which it came too late, gets the same answer in each attempt. A
-- signal that has come is taken even if the time is over. Nothing is done unless the delivery is pending under this consumer.
-- USES clock held_by mail_first memo_put
-- KEYS mail steps
-- ARGV group consumer place id name signal timeout_ms most most_bytes
-- Returns {'taken', value}, {'late'}, {'waits', ms that are left, or -1}, {'lost'}, {'other', the memo}, or
-- {'full', the number of memos, of their bytes with this one}; `timeout_ms` is '' for none
if not held_by(place) then return {'lost'} end

local kept = redis.call('HGET', steps, id .. '\0' .. name)
local kind = kept and string.sub(kept, 1, 1)
if kind == '+' then return {'taken', string.sub(kept, 2)} end
if kind == '!' then return {'late'} end
if kept and not string.match(kept, '^[?~]%d*$') then return {'other', kept} end

local now = clock()
local due = kept and string.sub(kept, 2) or ''
if not kept and timeout_ms ~= '' then due = string.format('%.0f', now + tonumber(timeout_ms)) end
local value = mail_first(signal)
local over = due ~= '' and tonumber(due) <= now
local number, bytes = memo_put(id, name, value and '+' .. value or over and '!' or '?' .. due)
if number then return {'full', number, bytes} end
if value then
  mail_drop(signal)
  return {'taken', value}
end
if over then return {'late'} end
return {'waits', due == '' and -1 or tonumber(due) - now}
