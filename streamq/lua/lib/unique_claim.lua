-- unique_claim(packed): of a task's claims (field `c`, see end_task) the digest of the unique key whose lock it holds, and
-- whether the lock may go to another task once this one has started; nil where it claims none.
local function unique_claim(packed)
  local good, claims = pcall(cmsgpack.unpack, packed or '')
  local what, until_started
  for n = 1, good and type(claims) == 'table' and #claims or 0, 2 do
    if claims[n] == 'u' and type(claims[n + 1]) == 'string' then what = claims[n + 1] end
    if claims[n] == 'us' then until_started = true end
  end
  return what, until_started
end
