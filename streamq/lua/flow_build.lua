#!lua
-- flow_build: store a part of a flow. Nothing of it runs before `flow_commit`, and without that it expires.
--
-- An item of a single value is stored as it is, one of several is packed: see `flow_release`. What is written twice is the
-- same. With `of_state` the flow must be in that state: the children of a map come into one that runs.
-- KEYS flow flow_items
-- ARGV of_state life_ms fields parts...
-- Returns 1, or 0 if the flow is not in that state. `fields`: how many pairs of the record come first; then items: number,
-- how many values, the values
local state = redis.call('HGET', flow, 'state')
if (state or 'building') ~= of_state then return 0 end
local at = first_arg
if not state then redis.call('HSET', flow, 'state', 'building') end
local number = tonumber(fields)
for from = at, at + 2 * number - 2, 1000 do
  redis.call('HSET', flow, unpack(ARGV, from, math.min(from + 999, at + 2 * number - 1)))
end
at = at + 2 * number
while at <= #ARGV do
  local node, values = ARGV[at], tonumber(ARGV[at + 1])
  local value = ARGV[at + 2]
  if values > 1 then value = cmsgpack.pack({unpack(ARGV, at + 2, at + 1 + values)}) end
  redis.call('HSET', flow_items, node, value)
  at = at + 2 + values
end
if state ~= 'running' then redis.call('PEXPIRE', flow, life_ms) end
redis.call('PEXPIRE', flow_items, life_ms)
return 1
