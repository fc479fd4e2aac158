#!lua flags=no-writes,allow-stale
-- page_locks: a page of the locks of a task type's unique keys, with the holder and the successor of each.
-- USES field hexed unique_holder
-- KEYS unique after index schedule high normal low suspect
-- ARGV group cursor limit
-- Returns {the cursor to continue from, or 0 at the end, {digest in hex, holder, its state or gone, successor or '', when
-- the holder was accepted or ''...}}
local function since(id, holder)
  local at = holder and holder.fields and field(holder.fields, 'e')
  return at or string.match(id, '^[hnls](%d+)-') or ''
end

local found, rows = redis.call('HSCAN', unique, cursor, 'COUNT', limit), {}
for n = 1, #found[2], 2 do
  local what, holder = found[2][n], unique_holder(found[2][n], group)
  rows[#rows + 1] = hexed(what)
  rows[#rows + 1] = found[2][n + 1]
  rows[#rows + 1] = holder and holder.state or 'gone'
  rows[#rows + 1] = redis.call('HGET', after, what) or ''
  rows[#rows + 1] = since(found[2][n + 1], holder)
end
return {found[1], rows}
