-- effects(first): the effects of a settlement's items, by the position of each item: an op is a letter, then the
-- effects as a JSON object. Returns a table, or nil and an error, so that all are read before the first write.
-- hold: ms for which the task's lane is held back. follow: how many follow-ups it has, which lib/follow reads. steps: its
-- handler may have stored memos. suspend: the memo of what it waits for: it is handed back because it is suspended. node: it
-- is a node of a flow, whose results key has this number. grow: so many bytes of children stand behind its result. expand: 1
-- if their results are its own. again: it is handed back as a new run, whose arguments are in b (see lib/continued). blob: the
-- lifetime in ms and the name of the blob that its result is in.
-- continued_told(told): whether `again` can be read.
-- effects_follow: whether there are follow-ups.
local EFFECTS = {hold = 'number', follow = 'number', steps = 'number', suspend = 'string', node = 'number'}
EFFECTS.grow, EFFECTS.expand, EFFECTS.blob = 'number', 'number', 'string'
EFFECTS.again = 'string'
local function continued_told(told) return string.match(told, '^(%d+) (%d*) (.*)$') end

local effects_follow = false
local function effects_read(text)
  local good, told = pcall(cjson.decode, text)
  good = good and type(told) == 'table'
  for name, value in pairs(good and told or {}) do
    good = good and EFFECTS[name] == type(value)
    if good and type(value) == 'number' then good = value >= 0 and value < 1e13 end
    if good and name == 'again' then good = continued_told(value) ~= nil end
  end
  effects_follow = effects_follow or good and told.follow ~= nil
  return good and told
end

local NO_EFFECTS = {}
local function effects(first)
  -- The nodes of one flow have the same effects, which are read once. Those with follow-ups get theirs, each for itself.
  local found, read = {}, {}
  for n = first, #ARGV, 5 do
    local op = ARGV[n]
    local told = #op == 1 and NO_EFFECTS or read[op] or effects_read(string.sub(op, 2))
    if told and not told.follow then read[op] = told end
    if not told then
      return nil, redis.error_reply(
        'MALFORMED effects of a settlement: ' .. string.sub(op, 2, 81) .. '; nothing was written')
    end
    found[n] = told
  end
  return found
end
