-- The part about runs: what an advance changes, and gates.

-- Reads one run's effects: record, jobs, values, timers, events, then asks in one argument, facts for
-- other runs, and new runs (gate, effects) within.
local read_effects
function read_effects()
  local head = arg()
  local e = { finished = byte(head) == 1 }
  local jobs, values, timers, drops, events = unp('>HHHHH', head, 2)
  e.run, e.record, e.first, e.jobs = arg(), arg(), cursor + 1, jobs
  cursor = cursor + 3 * jobs
  e.values_at, e.values = cursor + 1, values
  cursor = cursor + values
  e.timers_at, e.timers = cursor + 1, timers
  cursor = cursor + 3 * timers
  e.drops_at, e.drops = cursor + 1, drops
  cursor = cursor + drops
  e.events_at, e.events = cursor + 1, events
  cursor = cursor + events
  if #head > 11 then
    local tells, starts = unp('>HH', head, 12)
    e.cancel = arg()
    e.tells_at, e.tells = cursor + 1, tells
    cursor = cursor + 2 * tells
    e.starts = {}
    for i = 1, starts do
      local gate = arg()
      e.starts[i] = read_effects()
      e.starts[i].gate = gate
    end
  end
  return e
end

local function drop_timer(run, key)
  local name = run .. key
  local old = call('ZRANGEBYLEX', FACTS, '[' .. name, '(' .. sub(name, 1, -2) .. '\1', 'LIMIT', 0, 1)
  if old[1] then
    gather(zrem, FACTS, old[1])
    gather(zrem, TIMERS, name)
  end
end

local function drop_timers(run)
  local all = call('ZRANGEBYLEX', FACTS, '[' .. run, '(' .. run .. '\255')
  for i = 1, #all do
    gather(zrem, FACTS, all[i])
    gather(zrem, TIMERS, sub(all[i], 1, 19 + unp('>H', all[i], 17)))
  end
end

-- All that is kept of a run that nobody waits at a gate for: its timers go with the next flush.
local function drop_run(run)
  local first, last = '[' .. run, '(' .. run .. '\255'
  drop_timers(run)
  call('ZREMRANGEBYLEX', GATES, '[r' .. run, '(r' .. run .. '\255')
  call('HDEL', RUNS, run)
  call('ZREM', LIVE, run)
  call('ZREM', ENDED, run)
  call('ZREM', FINISHED, run)
  call('ZREM', DIRTY, run)
  call('ZREMRANGEBYLEX', INBOX, first, last)
  call('ZREMRANGEBYLEX', VALUES, first, last)
  call('ZREMRANGEBYLEX', HISTORY, first, last)
end

-- Gates, by bytes: `i` key run of those inside, `w` key turn run of those that wait, and of each run
-- that has one `r` run limit turn, length of the key, key, and the fact that lets it begin.
local function waiting_of(name, limit)
  local first = prefix('w', name)
  return call('ZRANGEBYLEX', GATES, '[' .. first, '(' .. first .. '\255', 'LIMIT', 0, limit)
end
local function inside_of(name)
  local first = prefix('i', name)
  return call('ZLEXCOUNT', GATES, '[' .. first, '(' .. first .. BEHIND)
end
local gated
local function gates_are_used()
  if gated == nil then gated = call('EXISTS', GATES) == 1 end
  return gated
end
-- Limit, turn, key and fact of a run's gate.
local function gate_of(run)
  local entry = call('ZRANGEBYLEX', GATES, '[r' .. run, '(r' .. run .. '\255', 'LIMIT', 0, 1)[1]
  if not entry then return end
  local length = unp('>H', entry, 30)
  return unp('>I4', entry, 18), sub(entry, 22, 29), sub(entry, 32, 31 + length), sub(entry, 32 + length), entry
end
-- Lets runs in, first come first in, as long as the first one waiting has room.
local function admit(name)
  while true do
    local first = waiting_of(name, 1)[1]
    if not first then return end
    local run = sub(first, -16)
    local limit, _, _, go = gate_of(run)
    if limit and inside_of(name) >= limit then return end
    open()
    call('ZREM', GATES, first)
    if limit then
      call('ZADD', GATES, 0, prefix('i', name) .. run)
      tell(run, go)
      flush(frees)
    end
  end
end
-- A run that has ended holds no place under its key, and waits for none.
local function leave_gate(run)
  local _, turn, name = gate_of(run)
  if not name then return end
  open()
  call('ZREM', GATES, prefix('i', name) .. run, prefix('w', name) .. turn .. run)
  admit(name)
end

local apply_effects
-- Starts a run: `c` created, `e` kept already, `b` its gate is full and it was not to wait.
-- Its gate: limit, length of the key, key, length of the fact, fact, `1` and a fact of refusal.
local started = {}
local function start_run(e, names)
  local run = e.run
  if started[run] or call('HEXISTS', RUNS, run) == 1 then return 'e' end
  if e.gate == '' then
    started[run] = true
    apply_effects(e, names)
    return 'c'
  end
  local limit, length = unp('>I4H', e.gate)
  local name, at = sub(e.gate, 7, 6 + length), 7 + length
  local go = sub(e.gate, at + 4, at + 3 + unp('>I4', e.gate, at))
  at = at + 4 + #go
  flush(frees)
  if byte(e.gate, at) == 1 and (#waiting_of(name, 1) > 0 or inside_of(name) >= limit) then
    return 'b', sub(e.gate, at + 1)
  end
  started[run] = true
  gated = true
  local turn = pack('>I8', take('s', 1, now * 1024))
  gather(zadd, GATES, 0, prefix('w', name) .. turn .. run)
  gather(zadd, GATES, 0, 'r' .. run .. pack('>I4', limit) .. turn .. pack('>H', #name) .. name .. go)
  apply_effects(e, names)
  flush(frees)
  admit(name)
  return 'c'
end

-- Carries out an advance. `before` is the run's record until now; a new run has none.
function apply_effects(e, names, before)
  local run = e.run
  gather(hset, RUNS, run, e.record)
  local was_over = before and byte(before, 9) >= R_OVER
  -- What stays as it is costs nothing: most advances neither begin nor end a run.
  if not before or was_over ~= e.finished then
    if e.finished then
      gather(zrem, LIVE, run)
      gather(zadd, FINISHED, 0, run)
      gather(zadd, ENDED, now, run)
    else
      if was_over then
        gather(zrem, FINISHED, run)
        gather(zrem, ENDED, run)
      end
      gather(zadd, LIVE, 0, run)
    end
  end
  for first = 0, e.jobs - 1, 1000 do
    local last, asked = min(first + 999, e.jobs - 1), {}
    for i = first, last do asked[i - first + 1] = ARGV[e.first + 3 * i] end
    local kept = call('HMGET', JOBS, unpack(asked))
    for i = first, last do
      local at = e.first + 3 * i
      add(ARGV[at], ARGV[at + 1], ARGV[at + 2], nil, names, kept[i - first + 1])
    end
  end
  for i = 0, e.values - 1 do
    local value = ARGV[e.values_at + i]
    local name = run .. sub(value, 1, 3 + unp('>H', value))
    local kept = call('ZRANGEBYLEX', VALUES, '[' .. name, '(' .. sub(name, 1, -2) .. '\1', 'LIMIT', 0, 1)
    if not kept[1] then gather(zadd, VALUES, 0, run .. value) end
  end
  if e.finished then
    drop_timers(run)
  else
    for i = 0, e.drops - 1 do
      drop_timer(run, ARGV[e.drops_at + i])
    end
    for i = 0, e.timers - 1 do
      local at = e.timers_at + 3 * i
      local key, delay, fact = ARGV[at], unp('>I8', ARGV[at + 1]), ARGV[at + 2]
      drop_timer(run, key)
      gather(zadd, TIMERS, now + delay, run .. key)
      gather(zadd, FACTS, 0, run .. key .. fact)
    end
  end
  if e.events > 0 then
    local position = take('s', e.events, now * 1024)
    for i = 0, e.events - 1 do
      local event = ARGV[e.events_at + i]
      gather(zadd, HISTORY, 0, run .. pack('>I8I8', position + i, now) .. event)
      log[#log + 1] = event
    end
  end
  if e.cancel and #e.cancel > 0 then
    flush(frees)
    for at = 1, #e.cancel, 16 do ask(sub(e.cancel, at, at + 15)) end
  end
  for i = 1, e.starts and #e.starts or 0 do
    local code, refusal = start_run(e.starts[i], names)
    if code == 'b' then tell_if_kept(run, refusal) end
  end
  for i = 0, (e.tells or 0) - 1 do
    tell_if_kept(ARGV[e.tells_at + 2 * i], ARGV[e.tells_at + 2 * i + 1])
  end
  if e.finished and gates_are_used() then
    flush(frees)
    leave_gate(run)
  end
end
