-- hexed(bytes): the bytes as hexadecimal digits.
local function hexed(bytes)
  return (string.gsub(bytes, '.', function(byte) return string.format('%02x', string.byte(byte)) end))
end
