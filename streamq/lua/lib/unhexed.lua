-- unhexed(text): the 16 bytes that hexadecimal digits stand for; nil if they do not.
local function unhexed(text)
  if #text ~= 32 or not string.find(text, '^%x+$') then return nil end
  return (string.gsub(text, '%x%x', function(code) return string.char(tonumber(code, 16)) end))
end
