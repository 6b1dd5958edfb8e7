-- Settles, promotes, claims: one call. ARGV: `moves queues plain`, plan of the commits (`moves run`
-- each), limit of the event log, event defaults, claim (worker, `want alone grace`, queue numbers) or
-- '', the moves' plans (each behind its length), lengths of their events, their events, queue names,
-- (id, record) of all moves, then the runs' parts. `plain`: each commit is one lease of the first queue
-- completed, without unique keys; then nothing is looked at one by one.
local head, commits, limit, defaults, claim = arg(), arg(), arg(), arg(), arg()
local plans, lengths, events = arg(), arg(), arg()
local moves, queues, plain = unp('>HHB', head)
local names = {}
for i = 1, queues do names[i] = arg() end
local records_at = cursor
cursor = cursor + 2 * moves
local ids = {}
for i = 1, moves do ids[i] = ARGV[records_at + 2 * i - 1] end

local leases, worker_expiry, touched = {}, {}, {}
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
    log[1] = events
    answers[1] = string.rep('aN', moves)
    moves, commits = 0, ''
  end
end
for first = 1, moves, 1000 do
  local last = min(first + 999, moves)
  local read = call('HMGET', RUNNING, unpack(ids, first, last))
  for i = first, last do leases[ids[i]] = read[i - first + 1] end
end

local function lapsed(lease)
  local worker = sub(lease, 1, 16)
  local expiry = worker_expiry[worker]
  if not expiry then
    local seen = call('HGET', WORKERS, worker)
    expiry = seen and unp('>I8', seen) or 0
    worker_expiry[worker] = expiry
  end
  return expiry < now or unp('>I8', lease, 25) < now
end

-- Whether an idle job still is where, and what, the mover believes; then also how to take it out.
local function idle(id, queue, place, rev, kind)
  local body = call('HGET', JOBS, id)
  if not body or leases[id] then return false end
  local name = names[queue + 1]
  if byte(body) == SHORT then
    local at = 3 + byte(body, 2)
    if sub(body, at, at + #name) ~= char(#name) .. name then return false end
  else
    -- The record names its queue near its beginning, as MessagePack writes a short text.
    local text = (#name < 32 and char(160 + #name) or '\217' .. char(#name)) .. name
    if not string.find(body, '\161q' .. text, 1, true) then return false end
  end
  local actual, kept, _, _, priority, parked = header(body)
  if kept ~= rev then return false end
  -- What was due since then waits in line; its record was not written for that.
  if actual == P_SCHEDULED or actual == P_RETRYING then
    if not call('ZSCORE', queue_key(queue, ZSET_OF[actual]), id) then actual = P_PENDING end
  elseif actual == P_PARKED then
    if not call('ZSCORE', queue_key(queue, PARKED), kind .. '\0' .. parked .. id) then actual = P_PENDING end
  end
  if actual ~= place then return false end
  return true, priority, parked
end

local function move(number, id, plan, body, event)
  local before = touched[id]
  if before == number then return 's' end
  if before then
    -- Named twice in one call: the second move sees what the first one did.
    flush(true)
    leases[id] = call('HGET', RUNNING, id)
  end
  local expect, from, to, high, low, priority = byte(plan, 1, 6)
  local queue = high * 256 + low
  if priority > 127 then priority = priority - 256 end
  local lease = leases[id]
  local unique, kind = '', ''
  if #plan > 24 then
    local key_length = unp('>H', plan, 23)
    unique = sub(plan, 25, 24 + key_length)
    kind = sub(plan, 25 + key_length)
  end
  local old_priority, parked
  if expect == 3 then
    local right
    right, old_priority, parked = idle(id, queue, from, unp('>I8', plan, 7), kind)
    if not right then return 's' end
  elseif not lease or sub(lease, 17, 24) ~= sub(plan, 7, 14) or (expect == 2 and not lapsed(lease)) then
    return 's'
  end
  if unique ~= '' then
    local other = holder(unique)
    if to >= P_DEAD and to ~= P_FRONT then
      if other == id then hold(unique, false) end
    elseif not other then
      hold(unique, id)
    elseif other ~= id then
      return 'x' .. other
    end
  end
  touched[id] = number
  if expect == 3 then
    leave(from, to, queue, id, old_priority, kind, parked)
  else
    drop_leases[#drop_leases + 1] = id
    leases[id] = false
  end
  if to == P_GONE then
    drop_jobs[#drop_jobs + 1] = id
  else
    local n = #set_jobs
    if to == P_COMPLETED then
      set_jobs[n + 1] = id
      set_jobs[n + 2] = body
      gather(zadd, KEYS[COMPLETED + queue * STRIDE], now_text, id)
    else
      local due = now
      if to == P_SCHEDULED or to == P_RETRYING then
        due = now + unp('>I8', plan, 15)
      elseif to == P_PARKED then
        -- Unlike the time alone, a position keeps the order of those that came in one millisecond.
        due = pack('>I8', take('s', 1, now * 1024))
        body = sub(body, 1, 1) .. due .. sub(body, 10)
      end
      set_jobs[n + 1] = id
      set_jobs[n + 2] = body
      enter(to, queue, id, priority, due, kind)
    end
  end
  wrote = true
  log[#log + 1] = event
  return 'a'
end

-- The run's part: with its moves if nothing has changed meanwhile, else as facts in its inbox.
local function run_part(count, all_applied, codes)
  local run, facts = arg(), cursor
  cursor = cursor + count
  local advance = arg()
  local effects
  if advance ~= '' then effects = read_effects() end
  if touched[run] then flush(true) end
  local record = call('HGET', RUNS, run)
  if not record then return 'G' end
  if effects and all_applied and sub(record, 1, 8) == sub(advance, 1, 8) then
    local drained, upto = unp('>BI8', advance, 9)
    local rest = '[' .. run
    if drained == 1 then
      rest = '[' .. run .. pack('>I8', upto + 1)
      flush(true)
      call('ZREMRANGEBYLEX', INBOX, '[' .. run, '(' .. sub(rest, 2))
    end
    touched[run] = true
    local more = call('ZRANGEBYLEX', INBOX, rest, '(' .. run .. '\255', 'LIMIT', 0, 1)[1]
    if more then
      gather(zadd, DIRTY, now, run)
      awake = true
    else
      gather(zrem, DIRTY, run)
    end
    apply_effects(effects, names, record)
    return more and 'M' or 'A'
  end
  local told = false
  for i = 1, count do
    if sub(codes[i], 1, 1) == 'a' then
      tell(run, ARGV[facts + i])
      told = true
    end
  end
  if not told then return 'C' end
  touched[run] = true
  return 'I'
end

local moved, number, plan_at, event_at = 0, 0, 1, 1
for at = 1, #commits, 3 do
  local count, has_run = unp('>HB', commits, at)
  local codes, all_applied = {}, true
  number = number + 1
  for i = 1, count do
    moved = moved + 1
    local plan_length, event_length = unp('>H', plans, plan_at), unp('>H', lengths, 2 * moved - 1)
    local plan = sub(plans, plan_at + 2, plan_at + 1 + plan_length)
    local event = sub(events, event_at, event_at + event_length - 1)
    plan_at = plan_at + 2 + plan_length
    event_at = event_at + event_length
    local code = move(number, ids[moved], plan, ARGV[records_at + 2 * moved], event)
    codes[i] = code
    answers[#answers + 1] = code
    if code ~= 'a' then all_applied = false end
  end
  answers[#answers + 1] = has_run == 1 and run_part(count, all_applied, codes) or 'N'
end
flush(true)

local next_due = false
local function sooner(score)
  score = tonumber(score)
  if not next_due or score < next_due then next_due = score end
end

-- Brings what is due into its line, in the order of due time.
local function promote(queue)
  local due = {}
  for _, which in ipairs({ SCHEDULED, RETRYING }) do
    local key = queue_key(queue, which)
    local first = call('ZRANGE', key, 0, 0, 'WITHSCORES')
    if first[1] then
      if tonumber(first[2]) <= now then
        local read = call('ZRANGEBYSCORE', key, '-inf', now, 'WITHSCORES', 'LIMIT', 0, 500)
        for i = 1, #read, 2 do due[#due + 1] = { tonumber(read[i + 1]), read[i], key, #due } end
        local later = call('ZRANGE', key, #read / 2, #read / 2, 'WITHSCORES')
        if later[1] then sooner(later[2]) end
      else
        sooner(first[2])
      end
    end
  end
  if #due == 0 then return end
  table.sort(due, function(a, b)
    if a[1] ~= b[1] then return a[1] < b[1] end
    return a[4] < b[4]
  end)
  for i = 1, #due do
    local id = due[i][2]
    gather(zrem, due[i][3], id)
    local body = call('HGET', JOBS, id)
    if body then
      local _, _, _, _, priority = header(body)
      enter(P_PENDING, queue, id, priority)
    end
  end
end

-- The next `want` ids of a line: marked entries and those without a record are passed over.
local function pop_line(queue, want, out)
  local line, tombs = queue_key(queue, LINE), queue_key(queue, TOMBS)
  local marked = call('SCARD', tombs) > 0
  while want > 0 do
    local popped = call('LPOP', line, want)
    if not popped or #popped == 0 then return want end
    if not marked then
      for i = 1, #popped do out[#out + 1] = popped[i] end
      want = want - #popped
    else
      for i = 1, #popped do
        if call('SREM', tombs, popped[i]) == 0 then
          out[#out + 1] = popped[i]
          want = want - 1
        end
      end
    end
  end
  return 0
end
local function pop_scores(queue, least, most, want, out)
  local key = queue_key(queue, PRIO)
  local popped = call('ZRANGEBYSCORE', key, least, most, 'LIMIT', 0, want)
  if #popped > 0 then
    call('ZREM', key, unpack(popped))
    for i = 1, #popped do out[#out + 1] = popped[i] end
  end
  return want - #popped
end

local suspects = 0
local claimed, bodies, epoch, records, told_runs = {}, {}, 0, {}, {}
local claims
if claim ~= '' then
  local worker = sub(claim, 1, 16)
  local want, alone, grace = unp('>HBI8', claim, 17)
  local asked = {}
  for i = 28, #claim, 2 do
    local queue = unp('>H', claim, i)
    local settings = call('HGET', QUEUES, names[queue + 1])
    promote(queue)
    if settings and byte(settings) == 0 then asked[#asked + 1] = queue end
  end
  flush(true)

  local function lease(queue, popped)
    local read = call('HMGET', JOBS, unpack(popped))
    local name = names[queue + 1]
    -- Never as short as what Redis packs into one list: looking up in that walks.
    local tail = name .. string.rep('\0', 25 - #name)
    local plain = pack('>I8I8', 9007199254740992, now) .. tail
    local first, n, entries = take('e', #popped, now * 1024), #claimed, {}
    if epoch == 0 then epoch = first end
    local before = n
    for i = 1, #popped do
      local body, id = read[i], popped[i]
      if body then
        n = n + 1
        local rest = plain
        if byte(body) >= 32 then
          local _, _, run, timeout = header(body)
          if timeout then rest = pack('>I8I8', min(now + timeout + grace, 9007199254740992), now) .. tail end
          if run and told_runs[run] == nil then
            -- Once, however many of its steps are claimed: the header of a large run is large.
            local record = call('HGET', RUNS, run)
            told_runs[run] = record
            if record then
              records[#records + 1] = run
              records[#records + 1] = record
            end
          end
        end
        claimed[n] = id
        bodies[n] = body
        local at = 2 * (n - before)
        entries[at - 1] = id
        entries[at] = pack('>c16I8c0', worker, epoch + n - 1, rest)
      end
    end
    if n > before then
      many('HSET', RUNNING, entries)
      claims = (claims or worker) .. pack('B', #name) .. name .. pack('>H', n - before)
        .. concat(claimed, '', before + 1, n)
    end
    return n - before
  end

  if want > 0 and alone == 1 then
    for _, queue in ipairs(asked) do
      local key = queue_key(queue, SUSPECT)
      while #claimed == 0 do
        local id = call('LPOP', key)
        if not id then break end
        lease(queue, { id })
      end
    end
  end
  if want > 0 and #claimed == 0 then
    for _, queue in ipairs(asked) do
      while want > 0 do
        local popped, left = {}, want
        local prioritised = call('ZCARD', queue_key(queue, PRIO)) > 0
        if prioritised then left = pop_scores(queue, '-inf', '(0', left, popped) end
        if left > 0 then left = pop_line(queue, left, popped) end
        if left > 0 and prioritised then left = pop_scores(queue, '(0', '+inf', left, popped) end
        if #popped == 0 then break end
        want = want - lease(queue, popped)
        if left > 0 then break end
      end
      if want <= 0 then break end
    end
  end
  for i = 28, #claim, 2 do
    suspects = suspects + call('LLEN', queue_key(unp('>H', claim, i), SUSPECT))
  end
  local timer = call('ZRANGE', TIMERS, 0, 0, 'WITHSCORES')
  if timer[1] then sooner(timer[2]) end
end
flush(true)
publish(defaults, limit, claims)
local dirty = call('ZRANGE', DIRTY, 0, 0, 'WITHSCORES')
local has_dirty = dirty[1] and tonumber(dirty[2]) <= now
return {
  now, suspects, has_dirty and 1 or 0, next_due or -1, epoch,
  concat(answers), claimed, bodies, records,
}
