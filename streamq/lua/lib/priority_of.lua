-- priority_of(letter, q): the letter of a task's priority: that of its stream, or in the stream that is read
-- first what field `q` says.
local function priority_of(letter, q) return letter ~= 's' and letter or (q == 'h' or q == 'l') and q or 'n' end
