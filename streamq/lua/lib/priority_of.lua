-- priority_of(letter, q): the letter of a task's priority: its stream's letter, or field `q` if it is in the
-- stream that is read first.
local function priority_of(letter, q) return letter ~= 's' and letter or (q == 'h' or q == 'l') and q or 'n' end
