-- Removes finished jobs of one queue beyond age and count. ARGV: age in ms, count, limit, limit of the
-- event log, event up to its text.
local age, count, limit, log_limit, event = tonumber(arg()), tonumber(arg()), tonumber(arg()), arg(), arg()
local dropped = 0
local has_logs = call('EXISTS', LOGS) == 1
for _, which in ipairs({ COMPLETED, CANCELLED }) do
  local key = queue_key(0, which)
  while dropped < limit do
    local excess = call('ZCARD', key) - count
    local old = call('ZCOUNT', key, '-inf', now - age)
    local n = min(math.max(excess, old), limit - dropped, 1000)
    if n <= 0 then break end
    local ids = call('ZRANGE', key, 0, n - 1)
    call('ZREM', key, unpack(ids))
    call('HDEL', JOBS, unpack(ids))
    if has_logs then
      for i = 1, #ids do call('ZREMRANGEBYLEX', LOGS, '[' .. ids[i], '(' .. ids[i] .. '\255') end
    end
    dropped = dropped + #ids
  end
end
if dropped > 0 then
  local text = dropped .. ' finished jobs'
  log[1] = event .. pack('>H', #text) .. text
end
publish('\0\0', log_limit)
return dropped
