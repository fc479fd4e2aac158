-- clock(): the server's time in ms, then seconds and microseconds as TIME returns them.
local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000), time
end
