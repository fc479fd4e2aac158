-- effects(first): the effects of a settlement's items, by the position of each item: an op is a letter, then the
-- effects as a JSON object. Returns a table, or nil and an error, so that all are read before the first write.
-- hold: ms for which the task's lane is held back. follow: how many follow-ups it has, which lib/follow reads. steps: its
-- handler may have stored memos. suspend: the memo of what it waits for: it is handed back because it is suspended. node: it
-- is a node of a flow, whose results key has this number. grow: so many bytes of children stand behind its result. expand: 1
-- if their results are its own. again: it is handed back as a new run, whose arguments are in b (see lib/continued). blob: the
-- lifetime in ms and the name of the blob that its result is in.
-- USES continued
local EFFECTS = {hold = 'number', follow = 'number', steps = 'number', suspend = 'string', node = 'number'}
EFFECTS.grow, EFFECTS.expand, EFFECTS.blob = 'number', 'number', 'string'
EFFECTS.again = 'string'
local function effects(first)
  local found = {}
  for n = first, #ARGV, 5 do
    local text = string.sub(ARGV[n], 2)
    local good, told = true, {}
    if text ~= '' then good, told = pcall(cjson.decode, text) end
    good = good and type(told) == 'table'
    for name, value in pairs(good and told or {}) do
      good = good and EFFECTS[name] == type(value)
      if good and type(value) == 'number' then good = value >= 0 and value < 1e13 end
      if good and name == 'again' then good = continued_told(value) ~= nil end
    end
    if not good then
      return nil, redis.error_reply(
        'MALFORMED effects of a settlement: ' .. string.sub(text, 1, 80) .. '; nothing was written')
    end
    found[n] = told
  end
  return found
end
