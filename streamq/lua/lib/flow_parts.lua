-- flow_parts(at, number): store a part of a flow, which stands from the argument `at` on: so many pairs of the record, then
-- items: number, how many values, the values. An item of a single value is stored as it is, one of several is packed: see
-- `flow_release`. What is written twice is the same.
-- KEYS flow flow_items
local function flow_parts(at, number)
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
end
