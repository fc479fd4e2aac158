-- memo_claimed(fields, id): the fields of a task, with the claim that it has memos of steps if it has any: so every end of
-- the task deletes them, but for that as a dead letter, which can be requeued and then goes on from them.
-- USES changed end_task field memo_drop
-- KEYS steps
local function memo_claimed(fields, id)
  if redis.call('HEXISTS', steps, id) == 0 then return fields end
  local good, claims = pcall(cmsgpack.unpack, field(fields, 'c') or '\144')
  if not good or type(claims) ~= 'table' then claims = {} end
  for n = 1, #claims, 2 do
    if claims[n] == 's' then return fields end
  end
  claims[#claims + 1] = 's'
  claims[#claims + 1] = ''
  return changed(fields, {c = cmsgpack.pack(claims)})
end

function release.s(_, id, how)
  if how ~= 'd' then memo_drop(id) end
end
