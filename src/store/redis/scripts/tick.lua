-- Fires due timers into inboxes. ARGV: limit.
local limit = min(tonumber(arg()), 1000)
local due = call('ZRANGEBYSCORE', TIMERS, '-inf', now, 'LIMIT', 0, limit)
local fired = 0
for i = 1, #due do
  local name = due[i]
  local run = sub(name, 1, 16)
  gather(zrem, TIMERS, name)
  local fact = call('ZRANGEBYLEX', FACTS, '[' .. name, '(' .. sub(name, 1, -2) .. '\1', 'LIMIT', 0, 1)[1]
  if fact then
    gather(zrem, FACTS, fact)
    if call('HEXISTS', RUNS, run) == 1 then
      tell(run, sub(fact, #name + 1))
      fired = fired + 1
    end
  end
end
flush(true)
publish('\0\0', 1)
local timer = call('ZRANGE', TIMERS, 0, 0, 'WITHSCORES')
return { fired, timer[1] and tonumber(timer[2]) or -1 }
