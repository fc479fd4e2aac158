-- continued(item, payload, told): the fields of a task that goes on as a new run: with other arguments, no attempts, failures
-- or memos of steps. It stays the same task: id, lane, lock, flow and mailbox are its own. told: the version of the payload, a
-- space, the lifetime (ms from when it is due) or nothing, a space, the options of the call or nothing. due: in ms.
-- USES blob_claim changed effects field memo_drop
-- KEYS expiring
local function continued_claims(item)
  local packed, kept = field(item.fields, 'c'), {}
  local good, claims = pcall(cmsgpack.unpack, packed or '\144')
  if not good or type(claims) ~= 'table' then return packed end
  for n = 1, #claims, 2 do
    if claims[n] == 's' then
      memo_drop(item.id)
    elseif claims[n] == 'b' then
      blob_claim(claims[n + 1], item.id, 'c')
    else
      kept[#kept + 1] = claims[n]
      kept[#kept + 1] = claims[n + 1]
    end
  end
  return #kept > 0 and cmsgpack.pack(kept)
end

local function continued(item, payload, told, due)
  local version, life, options = continued_told(told)
  local node, runs = field(item.fields, 'y'), tonumber(field(item.fields, 'n') or nil) or 0
  local expires = life ~= '' and string.format('%.0f', due + math.min(tonumber(life), 1e13))
  if expires then
    redis.call('ZADD', expiring, expires, item.id)
  elseif field(item.fields, 'x') then
    redis.call('ZREM', expiring, item.id)
  end
  local changes = {
    i = item.id, p = payload, a = false, l = false, q = false, f = false, s = false, k = false, x = expires,
    V = version ~= '1' and version, c = continued_claims(item) or false,
    n = string.format('%.0f', math.min(runs + 1, 999999999999))}
  -- What a node needed of others is in the arguments of the first run.
  if node then changes.y = string.match(node, '^[^/]*/%d+') end
  if options ~= '' then changes.m = options end
  return changed(item.fields, changes)
end
