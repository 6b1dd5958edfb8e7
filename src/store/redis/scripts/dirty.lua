-- Takes dirty runs and hides them for a while. ARGV: limit, hold in ms, entries of an inbox at most.
local limit, hold_for, entries = tonumber(arg()), tonumber(arg()), tonumber(arg())
local taken = {}
local ready = call('ZRANGEBYSCORE', DIRTY, '-inf', now, 'LIMIT', 0, min(limit, 500))
for i = 1, #ready do
  local run = ready[i]
  local record = call('HGET', RUNS, run)
  local inbox = call('ZRANGEBYLEX', INBOX, '[' .. run, '(' .. run .. '\255', 'LIMIT', 0, entries)
  call('ZREM', DIRTY, run)
  if record then
    call('ZADD', DIRTY, now + hold_for, run)
    for j = 1, #inbox do inbox[j] = sub(inbox[j], 17) end
    taken[#taken + 1] = { run, record, inbox }
  end
end
return taken
