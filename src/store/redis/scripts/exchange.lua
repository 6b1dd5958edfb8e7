-- Settles, promotes, claims: one call. ARGV: `moves queues plain`, plan of the commits (`moves run`
-- each), limit of the event log, event defaults, claim (worker, `want alone grace`, queue numbers; `alone` is 2 more
-- where only a registered worker is given anything) or '', the moves' plans (each behind its length), lengths of
-- their events, their events, queue names, (id, record) of all moves, then the runs' parts. `plain`: each commit
-- is one lease of the first queue completed, without unique and concurrency keys; then nothing is looked at one by one, and behind `plain` come
-- the epochs as (how many that rise by one, the first).
-- A move's plan: right, from, to, queue, priority, epoch or revision, wait; then length of the unique
-- key, the key, length of the type, the type, length of the concurrency key, the key, parents.
--
-- Most calls settle what is plain and claim from lines beside which nothing waits. That is done here, and none of
-- what the parts behind this one define is needed.
local head, commits, limit, defaults, claim, events = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[8]
local moves, queues, plain = unp('>HHB', head)
local names, records_at, ids = {}, 8 + queues, {}
for i = 1, queues do names[i] = ARGV[8 + i] end
for i = 1, moves do ids[i] = ARGV[records_at + 2 * i - 1] end
if claim ~= '' and byte(claim, 19) >= 2 and call('HEXISTS', WORKERS, sub(claim, 1, 16)) == 0 then claim = '' end
-- Whether anybody was asked to end, told of progress, or waits for a parent.
local is_used = call('EXISTS', ASKED, PROGRESS, TIES) > 0

if plain == 1 then
  local read = call('HMGET', RUNNING, unpack(ids))
  local finished, i = {}, 0
  for at = 6, #head, 10 do
    local count, epoch = unp('>HI8', head, at)
    for n = 0, count - 1 do
      i = i + 1
      local lease = read[i]
      -- As numbers: each new string costs the server more.
      if not lease or unp('>I8', lease, 17) ~= epoch + n then plain = 0 end
      finished[2 * i - 1] = now_text
      finished[2 * i] = ids[i]
    end
  end
  if plain == 1 then
    call('HDEL', RUNNING, unpack(ids))
    call('HSET', JOBS, unpack(ARGV, records_at + 1, records_at + 2 * moves))
    call('ZADD', queue_key(0, COMPLETED), unpack(finished))
    commits = ''
  end
end

-- Leases, with their epochs from `epoch` on; `ends`: when they end whatever the worker does, their queue behind it.
local function leases(entries, worker, ids, first, epoch, ends)
  local begins
  for i = 1, #ids do
    -- All but the last byte of an epoch is that of the one before.
    local low = (epoch + i - 1) % 256
    if i == 1 or low == 0 then begins = worker .. sub(pack('>I8', epoch + i - 1), 1, 7) end
    entries[first + 2 * i - 2] = ids[i]
    entries[first + 2 * i - 1] = begins .. char(low) .. ends
  end
end
local function ends_of(name, at)
  -- Never as short as what Redis packs into one list: looking up in that walks.
  return pack('>I8I8', at, now) .. name .. string.rep('\0', 25 - #name)
end
local function claims_of(name, ids)
  return pack('B', #name) .. name .. pack('>H', #ids) .. concat(ids)
end

-- What was taken out of lines here and is leased behind this part.
local carried = {}
if commits == '' and claim ~= '' and not is_used then
  local want, asked, fast = unp('>H', claim, 17), {}, true
  for i = 28, #claim, 2 do
    local queue = unp('>H', claim, i)
    local settings = call('HGET', QUEUES, names[queue + 1])
    local flags = settings and byte(settings)
    fast = fast and not (flags and flags >= 2) and call('EXISTS', queue_key(queue, SCHEDULED),
      queue_key(queue, RETRYING), queue_key(queue, PRIO), queue_key(queue, SUSPECT), queue_key(queue, TOMBS)) == 0
    if flags == 0 then asked[#asked + 1] = queue end
  end
  local ids, bodies = {}, {}
  for i = 1, fast and #asked or 0 do
    local popped = want > 0 and call('LPOP', queue_key(asked[i], LINE), want)
    if popped and #popped > 0 then
      want = want - #popped
      carried[asked[i]] = popped
      local read, n = call('HMGET', JOBS, unpack(popped)), #ids
      for j = 1, #popped do
        local body = read[j]
        local kind = body and byte(body) or LONG
        if kind >= 32 or kind == LONG then fast = false end
        ids[n + j], bodies[n + j] = popped[j], body
      end
    end
  end
  if fast then
    local epoch, worker, claims = 0, sub(claim, 1, 16), false
    if #ids > 0 then
      local last, entries = tonumber(call('HGET', COUNTERS, 'e') or 0), {}
      if last < now * 1024 then last = now * 1024 end
      epoch, claims = last + 1, worker
      call('HSET', COUNTERS, 'e', string.format('%.0f', last + #ids))
      for i = 1, #asked do
        local popped, name = carried[asked[i]], names[asked[i] + 1]
        if popped then
          leases(entries, worker, popped, #entries + 1, epoch + #entries / 2, ends_of(name, 9007199254740992))
          claims = claims .. claims_of(name, popped)
        end
      end
      call('HSET', RUNNING, unpack(entries))
    end
    if claims then
      call('XADD', EVENTS, 'MAXLEN', '~', limit, '*', 'e', defaults .. events, 'c', claims)
    elseif moves > 0 then
      call('XADD', EVENTS, 'MAXLEN', '~', limit, '*', 'e', defaults .. events)
    end
    local due, is_dirty = -1, false
    if call('EXISTS', TIMERS, DIRTY) > 0 then
      local timer, dirty = call('ZRANGE', TIMERS, 0, 0, 'WITHSCORES'), call('ZRANGE', DIRTY, 0, 0, 'WITHSCORES')
      if timer[1] then due = tonumber(timer[2]) end
      is_dirty = dirty[1] and tonumber(dirty[2]) <= now
    end
    return { now, 0, is_dirty and 1 or 0, due, epoch, 0, 0, string.rep('aN', moves), concat(ids), bodies, {} }
  end
end
