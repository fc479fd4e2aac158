-- unique_lost(id): release the lock of a task whose entry is gone, and with it what the task claimed. Of very many locks
-- only a part is searched: the next task of the key takes over one that stays, and the audit reports it.
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
