-- Removes finished runs beyond an age, with all that is theirs, producers not heard of for long, and
-- unique keys that were held for a time.
-- ARGV: age in ms, limit, memory of producers in ms, where the last call stopped looking at them.
local age, limit, memory, from = tonumber(arg()), tonumber(arg()), tonumber(arg()), arg()
local old = call('ZRANGEBYSCORE', ENDED, '-inf', now - age, 'LIMIT', 0, min(limit, 200))
for i = 1, #old do
  drop_run(old[i])
end
flush(true)
local page = call('HSCAN', PRODUCERS, from, 'COUNT', 500)
local silent = {}
for i = 1, #page[2], 2 do
  if unp('>I8', page[2][i + 1], 9) + memory <= now then silent[#silent + 1] = page[2][i] end
end
many('HDEL', PRODUCERS, silent)
-- Unique keys whose time is over, and whose job has ended before.
local over = call('ZRANGEBYSCORE', UNTIL, '-inf', now, 'LIMIT', 0, 500)
for i = 1, #over do
  if not holder(over[i]) then call('HDEL', UNIQUE, over[i]) end
  call('ZREM', UNTIL, over[i])
end
return { #old, page[1] }
