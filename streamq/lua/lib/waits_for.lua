-- waits_for(id, signal): the name of the memo of the first wait of a task for a signal that has not come; nil if there is none.
--
-- The memo of a wait, `wait <signal> <n>`, is ? and until when (ms; nothing: for ever) while its handler runs, ~ and the same
-- while the task is suspended for it, + and the signal's value when it has come, or ! when it came too late.
-- USES memo_names
-- KEYS steps
local function waits_for(id, signal)
  local head = 'wait ' .. signal .. ' '
  for name in memo_names(redis.call('HGET', steps, id) or '') do
    if string.sub(name, 1, #head) == head and string.match(string.sub(name, #head + 1), '^%d+$') then
      local memo = redis.call('HGET', steps, id .. '\0' .. name) or ''
      if string.match(memo, '^[?~]%d*$') then return name end
    end
  end
end
