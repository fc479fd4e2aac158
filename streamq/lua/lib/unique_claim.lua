-- unique_claim(packed): the digest of the unique key in a task's claims (field `c`, see end_task), and whether another task
-- may have the lock once this one has started; nil if it claims none. The third value: whether it will ask a lane.
local function unique_claim(packed)
  local good, claims = pcall(cmsgpack.unpack, packed or '')
  local what, until_started, asks
  for n = 1, good and type(claims) == 'table' and #claims or 0, 2 do
    if claims[n] == 'u' and type(claims[n + 1]) == 'string' then what = claims[n + 1] end
    if claims[n] == 'us' then until_started = true end
    if claims[n] == 'L' then asks = true end
  end
  return what, until_started, asks
end
