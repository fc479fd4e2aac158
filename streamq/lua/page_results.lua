#!lua flags=no-writes,allow-stale
-- page_results: a page of completed tasks from the first of these results hashes that has any.
-- KEYS results...
-- ARGV skip limit
-- Returns {number of the hash or 0, rows in it, {{local id, size, the result's start}...}}
for n, key in ipairs(KEYS) do
  local size = redis.call('HLEN', key)
  if size > 0 then
    local ids, rows = redis.call('HKEYS', key), {}
    if #ids <= 1000 then table.sort(ids) end  -- a longer hash keeps its own order while it is not written
    local skip = n == 1 and tonumber(skip) or 0
    for m = skip + 1, math.min(#ids, skip + tonumber(limit)) do
      local length = redis.call('HSTRLEN', key, ids[m])
      rows[#rows + 1] = {ids[m], length, length <= 2000 and redis.call('HGET', key, ids[m]) or ''}
    end
    if #rows > 0 then return {n, size, rows} end
  end
end
return {0, 0, {}}
