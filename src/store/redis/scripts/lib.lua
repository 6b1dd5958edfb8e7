-- The part that most scripts share: the headers of records, and writes that are gathered first and done in few
-- commands at the end. Checks come before writes, because a script that fails half-way is not
-- rolled back. Words in capitals stand for keys and numbers, short ones for functions of the libraries: `lua.rs`
-- puts these in before the server gets the text, since a variable that many functions use costs each call.

local function many(command, key, list)
  local n = #list
  for first = 1, n, 1000 do
    call(command, key, unpack(list, first, min(first + 999, n)))
  end
end

-- What Lua must know of a job: place, revision, run, limit of time, priority, where it was parked, its
-- concurrency key, how many of that may run, and whether it is a suspect.
local function header(body)
  local first = byte(body)
  if first == SHORT then return P_PENDING, 0, false, false, 0, false end
  local place, flags, at
  if first == LONG then
    place, flags = byte(body, 2, 3)
    at = 4
  else
    place = first % 16
    flags = (first - place) / 16
    at = 2
  end
  local rev, run, timeout, priority, parked, key, limit = 0, false, false, 0, false, false, false
  if place == P_PARKED then
    parked = sub(body, at, at + 7)
    at = at + 8
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
  if flags % 16 >= 8 then
    priority = unp('b', body, at)
    at = at + 1
  end
  if flags % 32 >= 16 then
    local length
    limit, length = unp('>I4H', body, at)
    key = sub(body, at + 6, at + 5 + length)
  end
  local suspect = flags >= 32
  if suspect and place == P_PENDING then place = P_SUSPECT end
  return place, rev, run, timeout, priority, parked, key, limit, suspect
end

-- The record with another place; of one that was parked, with where.
local function placed(body, place, parked)
  if byte(body) == LONG then
    return sub(body, 1, 1) .. char(place) .. sub(body, 3, 3) .. (parked or '') .. sub(body, parked and 12 or 4)
  end
  local first = byte(body)
  return char(first - first % 16 + place) .. (parked or '') .. sub(body, parked and 10 or 2)
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
  counted = counted or {}
  counted[name] = true
  return value + 1
end

local drop_leases, drop_jobs, set_jobs, hset = {}, {}, {}, {}
local zrem, lrem, zadd, rpush, lpush, sadd, log = {}, {}, {}, {}, {}, {}, {}
-- Who holds a unique key, until when at least, and which of these are to be written.
local holders, untils, changed = {}, {}, {}
-- Of what is said to running jobs and by them: what goes with a lease, and what with a job.
local drop_progress, drop_asks = {}, {}
local wrote, awake = false, false
-- Queues whose lines have got jobs that nobody was given yet.
local fresh = {}

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

-- A full server judges a script by its first write: one that may go on begins with one that frees. What is
-- read back within a script is written at once, and begins with `open`.
local frees, opened = true, false
local function open()
  if frees and not opened then call('HDEL', RUNNING, '') end
  opened = true
end

-- Does everything that was gathered. `freeing`: begin with a command that a full server allows; after
-- the first write of a script it does not ask again.
local function flush(freeing)
  if counted then
    for name in pairs(counted) do
      gather(hset, COUNTERS, name, string.format('%.0f', counters[name]))
    end
    counted = nil
  end
  if not wrote then return end
  if freeing and #drop_leases == 0 and not opened then drop_leases[1] = '' end
  opened = true
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
  many('HDEL', PROGRESS, drop_progress)
  many('ZREM', ASKED, drop_asks)
  for key in pairs(changed) do
    if holders[key] then
      call('HSET', UNIQUE, key, holders[key] .. (untils[key] or ''))
    else
      call('HDEL', UNIQUE, key)
    end
  end
  drop_leases, drop_jobs, set_jobs, hset, changed = {}, {}, {}, {}, {}
  zrem, lrem, zadd, rpush, lpush, sadd = {}, {}, {}, {}, {}, {}
  drop_progress, drop_asks = {}, {}
  wrote = false
end

-- Puts a job into a place. Of a job that returns to the head of a line whose earlier entry was only
-- marked as gone, that entry goes now: it must not be taken for the new one.
local function enter(place, queue, id, priority, due, kind)
  if place == P_PENDING then
    fresh[queue] = true
    if priority == 0 then
      gather(rpush, queue_key(queue, LINE), id)
    else
      gather(zadd, queue_key(queue, PRIO), take('b', 1, 0) - priority * SPAN, id)
    end
  elseif place == P_FRONT then
    fresh[queue] = true
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
    gather(zadd, queue_key(queue, byte(ZSETS, place + 1)), due, id)
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
    gather(zrem, queue_key(queue, byte(ZSETS, place + 1)), id)
  end
end

-- Reads the next argument.
local cursor = 0
local function arg()
  cursor = cursor + 1
  return ARGV[cursor]
end

-- Puts a fact into a run's inbox and marks the run; a run that somebody has taken stays hidden.
local told = {}
local function tell(run, fact)
  told[run] = true
  gather(zadd, INBOX, 0, run .. pack('>I8', take('s', 1, now * 1024)) .. fact)
  if not call('ZSCORE', DIRTY, run) then gather(zadd, DIRTY, now, run) end
  awake = true
end

local function tell_if_kept(run, fact)
  flush(frees)
  local kept = call('HEXISTS', RUNS, run)
  if kept == 1 then tell(run, fact) end
  return kept
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
  if awake or next(fresh) then call('PUBLISH', HINT, '') end
end
