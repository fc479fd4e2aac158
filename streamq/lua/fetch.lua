#!lua flags=allow-oom
-- fetch: hand over at most `budget` ready tasks to one consumer, from the streams in the order given.
--
-- XREADGROUP's COUNT is for each stream, so a plain read of several could bring a multiple of it.
-- `limits` are the most to take of each stream; the first `suspects` streams hold suspects, of which
-- one is taken in all. A stream without its group ends the walk; what was taken before is returned. A key
-- that is no stream is passed over, and told where nothing else was found.
-- KEYS streams...
-- ARGV group consumer budget suspects limits...
-- Returns {now_ms, {{number of the stream, entries}...}}
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local left, suspects = tonumber(ARGV[3]), tonumber(ARGV[4])
local found, suspect_taken, wrong = {}, false, nil
for n, stream in ipairs(KEYS) do
  local count = math.min(left, tonumber(ARGV[4 + n]))
  if n <= suspects and suspect_taken then count = 0 end
  if count > 0 then
    local reply = redis.pcall(
      'XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', count, 'STREAMS', stream, '>')
    if reply and reply.err and string.find(reply.err, 'WRONGTYPE', 1, true) then
      wrong = redis.error_reply('WRONGTYPE ' .. stream .. ' is no stream: somebody overwrote it; DEL it')
    elseif reply and reply.err then
      if #found == 0 then return reply end
      break
    elseif reply and reply[1] then
      local entries = reply[1][2]
      found[#found + 1] = {n, entries}
      left = left - #entries
      if n <= suspects then suspect_taken = true end
    end
  end
end
if wrong and #found == 0 then return wrong end
return {now, found}
