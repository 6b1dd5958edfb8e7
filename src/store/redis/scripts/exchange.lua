-- Settles, promotes, claims: one call. ARGV: `moves queues plain`, plan of the commits (`moves run`
-- each), limit of the event log, event defaults, claim (worker, `want alone grace`, queue numbers) or
-- '', the moves' plans (each behind its length), lengths of their events, their events, queue names,
-- (id, record) of all moves, then the runs' parts. `plain`: each commit is one lease of the first queue
-- completed, without unique and concurrency keys; then nothing is looked at one by one.
-- A move's plan: right, from, to, queue, priority, epoch or revision, wait; then length of the unique
-- key, the key, length of the type, the type, length of the concurrency key, the key, parents.
local head, commits, limit, defaults, claim = arg(), arg(), arg(), arg(), arg()
local plans, lengths, events = arg(), arg(), arg()
local moves, queues, plain = unp('>HHB', head)
local names = {}
local index_of = {}
for i = 1, queues do
  names[i] = arg()
  index_of[names[i]] = i - 1
end
local records_at = cursor
cursor = cursor + 2 * moves
local ids = {}
for i = 1, moves do ids[i] = ARGV[records_at + 2 * i - 1] end

used = call('EXISTS', ASKED, PROGRESS, TIES) > 0
local answers = {}

if plain == 1 then
  local read = call('HMGET', RUNNING, unpack(ids))
  local finished = {}
  for i = 1, moves do
    local lease = read[i]
    -- As numbers: each new string costs the server more.
    if not lease or unp('>I8', lease, 17) ~= unp('>I8', plans, 26 * i - 17) then
      plain = 0
      break
    end
    finished[2 * i - 1] = now_text
    finished[2 * i] = ids[i]
  end
  if plain == 1 then
    call('HDEL', RUNNING, unpack(ids))
    call('HSET', JOBS, unpack(ARGV, records_at + 1, records_at + 2 * moves))
    call('ZADD', queue_key(0, COMPLETED), unpack(finished))
    if used then
      call('HDEL', PROGRESS, unpack(ids))
      call('ZREM', ASKED, unpack(ids))
      for i = 1, moves do tell_children(ids[i], true) end
    end
    log[1] = events
    answers[1] = string.rep('aN', moves)
    moves, commits = 0, ''
  end
end
