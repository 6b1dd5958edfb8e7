-- The middle of an exchange: its moves, one by one, and the runs' parts. It stands between `exchange` and
-- `claim`, and only calls that have such moves come here.
local leases, worker_expiry, touched, stirred = {}, {}, {}, {}
for first = 1, moves, 1000 do
  local last = min(first + 999, moves)
  local read = call('HMGET', RUNNING, unpack(ids, first, last))
  for i = first, last do leases[ids[i]] = read[i - first + 1] end
end

local function read_plan(plan)
  if #plan <= 24 then return '', '', '', '' end
  local length, at = unp('>H', plan, 23), 25
  local unique = sub(plan, at, at + length - 1)
  at = at + length
  length = byte(plan, at)
  local kind = sub(plan, at + 1, at + length)
  at = at + 1 + length
  length = unp('>H', plan, at)
  return unique, kind, sub(plan, at + 2, at + 1 + length), sub(plan, at + 2 + length)
end

-- Whose turn it is after the moves may wait in a queue that this call does not know: before anything is
-- written, it asks to be sent again with that queue.
if moves > 0 and call('EXISTS', KEYED) == 1 then
  local plan_at, leaving, unknown = 1, {}, { 'queues' }
  for i = 1, moves do
    local length = unp('>H', plans, plan_at)
    local plan = sub(plans, plan_at + 2, plan_at + 1 + length)
    plan_at = plan_at + 2 + length
    local _, _, name = read_plan(plan)
    if byte(plan) == 3 then
      local body = call('HGET', JOBS, ids[i])
      if body then
        local _, _, _, _, _, _, kept = header(body)
        name = kept or ''
      end
    end
    if name ~= '' then leaving[name] = (leaving[name] or 0) + 1 end
  end
  for name, count in pairs(leaving) do
    local next_ones = first_blocked(name, count)
    for i = 1, #next_ones do
      local _, _, queue_name = read_blocked(next_ones[i])
      if not index_of[queue_name] then unknown[#unknown + 1] = queue_name end
    end
  end
  if #unknown > 1 then return unknown end
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
  local actual, kept, _, _, priority, parked, concurrency, _, suspect = header(body)
  if kept ~= rev then return false end
  local blocked = concurrency and blocked_as(id)
  local waits = suspect and P_SUSPECT or P_PENDING
  -- What was due since then waits in line; its record was not written for that.
  if blocked then
    actual = P_BLOCKED
  elseif actual == P_SCHEDULED or actual == P_RETRYING then
    if not call('ZSCORE', queue_key(queue, byte(ZSETS, actual + 1)), id) then actual = waits end
  elseif actual == P_PARKED then
    if not call('ZSCORE', queue_key(queue, PARKED), kind .. '\0' .. parked .. id) then actual = waits end
  end
  if actual ~= place then return false end
  return true, priority, parked, concurrency, blocked
end

local function move(number, id, plan, body, event)
  local before = touched[id]
  if before == number then return 's' end
  if before or stirred[id] then
    -- Named twice in one call: the second move sees what the first one did.
    flush(true)
    leases[id] = call('HGET', RUNNING, id)
  end
  local expect, from, to, high, low, priority = byte(plan, 1, 6)
  local queue = high * 256 + low
  if priority > 127 then priority = priority - 256 end
  local lease = leases[id]
  local unique, kind, concurrency, parents = read_plan(plan)
  local old_priority, parked, blocked
  if expect == 3 then
    local right
    right, old_priority, parked, concurrency, blocked = idle(id, queue, from, unp('>I8', plan, 7), kind)
    if not right then return 's' end
  elseif not lease or sub(lease, 17, 24) ~= sub(plan, 7, 14) or (expect == 2 and not lapsed(lease)) then
    return 's'
  end
  local over = is_over(to)
  if unique ~= '' then
    local other = holder(unique)
    if over then
      if other == id and not untils[unique] then hold(unique, false) end
    elseif not other then
      hold(unique, id)
    elseif other ~= id then
      return 'x' .. other
    end
  end
  touched[id] = number
  if from == P_HELD or to == P_HELD then flush(true) end
  if blocked then
    unblock(queue, blocked)
  elseif expect == 3 then
    leave(from, to, queue, id, old_priority, kind, parked)
    if from == P_HELD then untie(id) end
  else
    drop_leases[#drop_leases + 1] = id
    leases[id] = false
    if used then drop_progress[#drop_progress + 1] = id end
    if concurrency ~= '' then
      open()
      call('ZREM', KEYED, prefix('r', concurrency) .. id)
    end
  end
  if over and used then
    drop_asks[#drop_asks + 1] = id
    tell_children(id, true)
  elseif used and is_over(from) then
    tell_children(id, false)
  end
  if to == P_GONE then
    drop_jobs[#drop_jobs + 1] = id
    call('ZREMRANGEBYLEX', LOGS, '[' .. id, '(' .. id .. '\255')
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
        body = placed(body, P_PARKED, due)
      end
      set_jobs[n + 1] = id
      set_jobs[n + 2] = body
      enter(to, queue, id, priority, due, kind)
      if to == P_HELD then tie(id, parents) end
    end
  end
  if concurrency and concurrency ~= '' and not blocked
    and (from == P_RUNNING or from == P_PENDING or from == P_SUSPECT) then
    let_next(concurrency, index_of, stirred)
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
  if touched[run] or told[run] or started[run] then flush(true) end
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
    if effects.cancel then
      -- Also what its own effects have told it.
      flush(true)
      more = call('ZRANGEBYLEX', INBOX, rest, '(' .. run .. '\255', 'LIMIT', 0, 1)[1]
    end
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
