#!lua flags=allow-oom
-- flow_signal: give a flow a value that a node of it waits for now, or will.
--
-- A node that waits ends in this step; a signal that comes first is kept with the flow, and taken once. `key`: the same if the
-- caller sends the call once more, which then changes nothing.
-- USES flow_open note
-- KEYS flow flow_states flows inbox
-- ARGV flow_id signal value key most most_bytes action about
-- Returns delivered, stored, dead (the flow has ended), none (no node waits for such a signal), full, or '' for no such flow
if not flow_open() then return '' end
if not string.find(redis.call('HGET', flow, 'awaits') or '', '\0' .. signal .. '\0', 1, true) then return 'none' end
if f.state ~= 'running' then return 'dead' end
local before = redis.call('HGET', flow, 'signals') or ''
for n = 1, #before, 16 do
  if string.sub(before, n, n + 15) == key then return 'stored' end
end

local waiting, taker = redis.call('HGET', flow, 'w:' .. signal) or '', nil
for n in string.gmatch(waiting, '%d+') do
  if flow_at(tonumber(n)) == 'r' then
    taker = tonumber(n)
    break
  end
end
if taker then
  flow_take_signal(taker, value)
  flow_ended(taker, 'c')
  flow_look_on()
elseif not flow_mail_put(signal, value, tonumber(most), tonumber(most_bytes)) then
  return 'full'
end
redis.call('HSET', flow, 'signals', string.sub(before .. key, -16 * 32))
flow_close()
note(1)
return taker and 'delivered' or 'stored'
