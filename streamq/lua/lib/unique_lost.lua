-- unique_lost(id): release the lock of a task whose entry is gone, so that nothing tells what it claimed. Of very many
-- locks a part is looked at: one that stays is taken over by the next task of its key, and the audit tells of it.
-- USES unique_free
-- KEYS unique
local function unique_lost(id)
  if redis.call('EXISTS', unique) == 0 then return end
  local cursor, looks = '0', 0
  repeat
    local found = redis.call('HSCAN', unique, cursor, 'COUNT', 500)
    for n = 1, #found[2], 2 do
      if found[2][n + 1] == id then return unique_free(found[2][n]) end
    end
    cursor, looks = found[1], looks + 1
  until cursor == '0' or looks == 20
end
