-- Finds jobs that were asked to end and that a worker can end: leased by it, or by nobody, or with a
-- lapsed lease. ARGV: worker, limit.
local worker, limit = arg(), tonumber(arg())
local found, from, expiry = {}, 0, {}
while #found < limit do
  local page = call('ZRANGE', ASKED, from, from + 499)
  if #page == 0 then break end
  from = from + #page
  local leases = call('HMGET', RUNNING, unpack(page))
  for i = 1, #page do
    local lease = leases[i]
    local can = not lease or sub(lease, 1, 16) == worker or unp('>I8', lease, 25) < now
    if not can then
      local other = sub(lease, 1, 16)
      if not expiry[other] then
        local seen = call('HGET', WORKERS, other)
        expiry[other] = seen and unp('>I8', seen) or 0
      end
      can = expiry[other] < now
    end
    if can and #found < limit then found[#found + 1] = page[i] end
  end
end
return found
