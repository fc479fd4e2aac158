-- unhexed(text): the bytes that hexadecimal digits stand for; nil where they are none of 16 bytes.
local function unhexed(text)
  if #text ~= 32 or not string.find(text, '^%x+$') then return nil end
  return (string.gsub(text, '%x%x', function(code) return string.char(tonumber(code, 16)) end))
end
