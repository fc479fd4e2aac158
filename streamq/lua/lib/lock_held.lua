-- lock_held(what, group): whether a living task that claims it holds the lock of a unique key's digest. A delivery
-- whose entry something else deleted counts as one: its end releases the lock.
-- USES unique_holder unique_claim field
local function lock_held(what, group_)
  local holder = unique_holder(what, group_)
  if not holder then return false end
  if not holder.fields then return true end
  return (unique_claim(field(holder.fields, 'c'))) == what
end
