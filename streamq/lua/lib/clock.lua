-- clock(): the server's time in ms, and as TIME gives it: seconds and microseconds.
local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000), time
end
