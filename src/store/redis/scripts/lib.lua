-- The part that every script begins with: names of the keys, the clock, the headers of records, and
-- writes that are gathered first and done in few commands at the end. Checks come before writes,
-- because a script that fails half-way is not rolled back. Keys are only ever taken from KEYS.
local call, sub, byte, char, concat = redis.call, string.sub, string.byte, string.char, table.concat
local pack, unp, floor, min = struct.pack, struct.unpack, math.floor, math.min

local JOBS, RUNNING, UNIQUE, QUEUES, PRODUCERS, WORKERS = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local EVENTS, COUNTERS, RUNS, LIVE, FINISHED, INBOX = KEYS[7], KEYS[8], KEYS[9], KEYS[10], KEYS[11], KEYS[12]
local DIRTY, TIMERS, FACTS, VALUES, HISTORY, CHANNEL = KEYS[13], KEYS[14], KEYS[15], KEYS[16], KEYS[17], KEYS[18]
local ENDED = KEYS[19]
-- Each queue brings ten keys, in this order.
local LINE, PRIO, SUSPECT, PARKED, TOMBS, SCHEDULED, RETRYING = 20, 21, 22, 23, 24, 25, 26
local DEAD, COMPLETED, CANCELLED, STRIDE = 27, 28, 29, 10
-- Places, as the low half of a record's first byte.
local P_PENDING, P_SCHEDULED, P_SUSPECT, P_PARKED, P_RETRYING = 0, 1, 2, 3, 5
-- The first byte of a record in the short form: it waits in line, and was never moved.
local SHORT = 15
-- States of runs from here on are final.
local R_OVER = 4
local P_DEAD, P_COMPLETED, P_CANCELLED, P_FRONT, P_GONE = 6, 7, 8, 9, 10
local ZSET_OF = {
  [P_SCHEDULED] = SCHEDULED, [P_RETRYING] = RETRYING,
  [P_DEAD] = DEAD, [P_COMPLETED] = COMPLETED, [P_CANCELLED] = CANCELLED,
}
-- One priority is this far from the next in a line's scores.
local SPAN = 35184372088832

local function queue_key(queue, which)
  return KEYS[which + queue * STRIDE]
end

local clock = call('TIME')
local now = clock[1] * 1000 + floor(clock[2] / 1000)
-- As text, because Redis writes numbers of this size out slowly.
local now_text = string.format('%.0f', now)

local function many(command, key, list)
  local n = #list
  for first = 1, n, 1000 do
    call(command, key, unpack(list, first, min(first + 999, n)))
  end
end

-- What Lua must know of a job: place, revision, run, limit of time, priority, and when it was parked.
local function header(body)
  local first = byte(body)
  if first == SHORT then return P_PENDING, 0, false, false, 0, false end
  local place = first % 16
  local flags = (first - place) / 16
  local at, rev, run, timeout, priority, parked = 2, 0, false, false, 0, false
  if place == P_PARKED then
    parked = sub(body, 2, 9)
    at = 10
  end
  if flags % 2 == 1 then
    rev = unp('>I4', body, at)
    at = at + 4
  end
  if flags % 4 >= 2 then
    run = sub(body, at, at + 15)
    at = at + 16
  end
  if flags % 8 >= 4 then
    timeout = unp('>I8', body, at)
    at = at + 8
  end
  if flags >= 8 then
    priority = unp('b', body, at)
  end
  return place, rev, run, timeout, priority, parked
end

-- Numbers that only rise. Epochs and inbox positions have the clock as their floor: after a crash
-- that cost the server its last second, new ones still are above those that somebody remembers.
local counters, counted
local function take(name, n, least)
  if not counters then
    local read = call('HMGET', COUNTERS, 'b', 'f', 'e', 's')
    counters = { b = tonumber(read[1] or 0), f = tonumber(read[2] or 0), e = tonumber(read[3] or 0), s = tonumber(read[4] or 0) }
  end
  local value = counters[name]
  if value < least then value = least end
  counters[name] = value + n
  counted = true
  return value + 1
end

local drop_leases, drop_jobs, set_jobs, hset = {}, {}, {}, {}
local zrem, lrem, zadd, rpush, lpush, sadd, log = {}, {}, {}, {}, {}, {}, {}
-- Who holds a unique key, and which of these are to be written.
local holders, changed = {}, {}
local wrote, awake = false, false

local function gather(into, key, a, b)
  local list = into[key]
  if not list then
    list = {}
    into[key] = list
  end
  local n = #list
  list[n + 1] = a
  if b then list[n + 2] = b end
  wrote = true
end

local function each(command, lists)
  for key, list in pairs(lists) do
    many(command, key, list)
  end
end

-- Does everything that was gathered. `freeing`: begin with a command that a full server allows; after
-- the first write of a script it does not ask again.
local function flush(freeing)
  if counted then
    counted = false
    wrote = true
    gather(hset, COUNTERS, 'b', string.format('%.0f', counters.b))
    gather(hset, COUNTERS, 'f', string.format('%.0f', counters.f))
    gather(hset, COUNTERS, 'e', string.format('%.0f', counters.e))
    gather(hset, COUNTERS, 's', string.format('%.0f', counters.s))
  end
  if not wrote then return end
  if freeing and #drop_leases == 0 then drop_leases[1] = '' end
  many('HDEL', RUNNING, drop_leases)
  many('HSET', JOBS, set_jobs)
  each('HSET', hset)
  many('HDEL', JOBS, drop_jobs)
  each('ZREM', zrem)
  for key, list in pairs(lrem) do
    for i = 1, #list do call('LREM', key, 1, list[i]) end
  end
  each('SADD', sadd)
  each('RPUSH', rpush)
  each('LPUSH', lpush)
  each('ZADD', zadd)
  for key in pairs(changed) do
    if holders[key] then
      call('HSET', UNIQUE, key, holders[key])
    else
      call('HDEL', UNIQUE, key)
    end
  end
  drop_leases, drop_jobs, set_jobs, hset, changed = {}, {}, {}, {}, {}
  zrem, lrem, zadd, rpush, lpush, sadd = {}, {}, {}, {}, {}, {}
  wrote = false
end

-- Puts a job into a place. Of a job that returns to the head of a line whose earlier entry was only
-- marked as gone, that entry goes now: it must not be taken for the new one.
local function enter(place, queue, id, priority, due, kind)
  if place == P_PENDING then
    awake = true
    if priority == 0 then
      gather(rpush, queue_key(queue, LINE), id)
    else
      gather(zadd, queue_key(queue, PRIO), take('b', 1, 0) - priority * SPAN, id)
    end
  elseif place == P_FRONT then
    awake = true
    if priority ~= 0 then
      gather(zadd, queue_key(queue, PRIO), -take('f', 1, 0) - priority * SPAN, id)
    else
      local line, tombs = queue_key(queue, LINE), queue_key(queue, TOMBS)
      if call('SREM', tombs, id) == 1 then call('LREM', line, 1, id) end
      gather(lpush, line, id)
    end
  elseif place == P_SUSPECT then
    awake = true
    gather(rpush, queue_key(queue, SUSPECT), id)
  elseif place == P_PARKED then
    gather(zadd, queue_key(queue, PARKED), 0, kind .. '\0' .. due .. id)
  else
    gather(zadd, queue_key(queue, ZSET_OF[place]), due, id)
  end
end

-- Takes an idle job out of its place. From the middle of a line nothing is taken: the entry is marked
-- as gone, and whoever claims skips it; a walk is only what a second mark for the same job costs, or
-- its way to the head of the same line, where the mark would hit the wrong entry.
local function leave(place, to, queue, id, priority, kind, parked)
  if place == P_PENDING then
    if priority ~= 0 then
      gather(zrem, queue_key(queue, PRIO), id)
    elseif to == P_FRONT then
      gather(lrem, queue_key(queue, LINE), id)
    elseif call('SISMEMBER', queue_key(queue, TOMBS), id) == 1 then
      call('LREM', queue_key(queue, LINE), -1, id)
    else
      gather(sadd, queue_key(queue, TOMBS), id)
    end
  elseif place == P_SUSPECT then
    gather(lrem, queue_key(queue, SUSPECT), id)
  elseif place == P_PARKED then
    gather(zrem, queue_key(queue, PARKED), kind .. '\0' .. parked .. id)
  else
    gather(zrem, queue_key(queue, ZSET_OF[place]), id)
  end
end

local function holder(key)
  local id = holders[key]
  if id == nil then
    id = call('HGET', UNIQUE, key)
    holders[key] = id
  end
  return id
end
local function hold(key, id)
  holders[key] = id
  changed[key] = true
  wrote = true
end

local known_queues = {}
local function know(queue, name)
  if not known_queues[queue] then
    known_queues[queue] = true
    if call('HEXISTS', QUEUES, name) == 0 then gather(hset, QUEUES, name, '\0') end
  end
end

-- Adds one new job: `c` created, `e` this id is kept already, `x` and an id when a live job holds the
-- key. `kept` is the stored record of that id, if any. A step of a run comes without an event, and is
-- never refused.
local created = {}
local function add(id, plan, body, event, names, kept)
  if kept or created[id] then return 'e' end
  local start, high, low, priority = byte(plan, 1, 4)
  local queue = high * 256 + low
  if priority > 127 then priority = priority - 256 end
  if #plan > 12 then
    local unique = sub(plan, 13)
    local other = holder(unique)
    if other and event then return 'x' .. other end
    hold(unique, id)
  end
  created[id] = true
  know(queue, names[queue + 1])
  local place, due = P_PENDING, 0
  if start ~= 0 then
    due = unp('>I8', plan, 5)
    if start == 1 then due = now + due end
  end
  if due > now then
    place = P_SCHEDULED
    body = char(byte(body) + P_SCHEDULED) .. sub(body, 2)
    if event then event = '\2' .. sub(event, 2) end
  end
  local n = #set_jobs
  set_jobs[n + 1] = id
  set_jobs[n + 2] = body
  enter(place, queue, id, priority, due)
  if event then log[#log + 1] = event end
  return 'c'
end

-- Reads the next argument.
local cursor = 0
local function arg()
  cursor = cursor + 1
  return ARGV[cursor]
end

-- Reads one run's effects: record, jobs, values, timers, events.
local function read_effects()
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

-- Carries out an advance. `before` is the run's record until now; a new run has none.
local function apply_effects(e, names, before)
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
end

-- Puts a fact into a run's inbox and marks the run; a run that somebody has taken stays hidden.
local function tell(run, fact)
  gather(zadd, INBOX, 0, run .. pack('>I8', take('s', 1, now * 1024)) .. fact)
  if not call('ZSCORE', DIRTY, run) then gather(zadd, DIRTY, now, run) end
  awake = true
end

-- One record in the event log for everything that this call did, and one hint to those who wait.
local function publish(defaults, limit, claims)
  if #log > 0 or claims then
    if claims then
      call('XADD', EVENTS, 'MAXLEN', '~', limit, '*', 'e', defaults .. concat(log), 'c', claims)
    else
      call('XADD', EVENTS, 'MAXLEN', '~', limit, '*', 'e', defaults .. concat(log))
    end
  end
  if awake then call('PUBLISH', CHANNEL, '') end
end
