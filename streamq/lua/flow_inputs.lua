#!lua flags=no-writes
-- flow_inputs: the results of nodes of a flow, in order, as long as they are not too large together.
-- KEYS flow flow_states flow_results...
-- ARGV bytes nodes...
-- Returns {bytes read, or -1 if they are more than `bytes`, pairs of the node's state and its result ('' if none is stored)}
-- ; a node is its number and which of the keys has its result, as <number>:<key>
local found, size = {0}, 0
local states = #ARGV - first_arg > 8 and (redis.call('GET', flow_states) or '')
for n = first_arg, #ARGV do
  local number, key = string.match(ARGV[n], '^(%d+):(%d+)$')
  local value = redis.call('HGET', KEYS[first_key + tonumber(key) - 1], number) or redis.call('HGET', flow, 'v' .. number) or ''
  size = size + #value
  if size > tonumber(bytes) then return {-1} end
  found[#found + 1] = states and string.sub(states, number + 1, number + 1) or redis.call('GETRANGE', flow_states, number, number)
  found[#found + 1] = value
end
found[1] = size
return found
