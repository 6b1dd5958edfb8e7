-- The part of an exchange that follows what every script shares: what of plain moves lies beside the jobs.
used = is_used
cursor = records_at + 2 * moves
local plans, lengths = ARGV[6], ARGV[7]
local answers, index_of = {}, {}
for i = 1, queues do index_of[names[i]] = i - 1 end
if plain == 1 then
  opened = true
  if used then
    call('HDEL', PROGRESS, unpack(ids))
    call('ZREM', ASKED, unpack(ids))
    for i = 1, moves do tell_children(ids[i], true) end
  end
  log[1] = events
  answers[1] = string.rep('aN', moves)
  moves = 0
end
