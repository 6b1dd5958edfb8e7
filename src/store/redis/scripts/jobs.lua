-- The part about jobs for scripts that move them: unique keys, ties to parents, concurrency keys, and
-- new jobs. What is read back within one call is written at once; `flush` before, where a record
-- that this call has moved is looked at.

-- Whether a place is the end of a job; of a move, also whether the job goes altogether.
local function is_over(place)
  return place == P_DEAD or place == P_COMPLETED or place == P_CANCELLED or place == P_GONE
end

local function has_ended(id)
  local body = call('HGET', JOBS, id)
  return not body or is_over((header(body)))
end

-- Who holds a unique key: a job that lives, or one whose time for the key is not over.
local function holder(key)
  local id = holders[key]
  if id == nil then
    id = call('HGET', UNIQUE, key)
    if id and #id > 16 then
      untils[key] = sub(id, 17)
      id = sub(id, 1, 16)
      if unp('>I8', untils[key]) <= now then
        untils[key] = nil
        if has_ended(id) then id = false end
      end
    end
    holders[key] = id
  end
  return id
end
local function hold(key, id, until_at)
  holders[key] = id
  untils[key] = until_at
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

local function tie(child, parents)
  open()
  used = true
  for at = 1, #parents, 16 do
    local parent = sub(parents, at, at + 15)
    call('ZADD', TIES, 0, 'c' .. child .. parent, 0, 'p' .. parent .. child)
    if has_ended(parent) then call('ZADD', FREED, 0, parent) end
  end
end
local function untie(child)
  open()
  local ties = call('ZRANGEBYLEX', TIES, '[c' .. child, '(c' .. child .. BEHIND)
  for i = 1, #ties do
    local parent = sub(ties[i], 18)
    call('ZREM', TIES, ties[i], 'p' .. parent .. child)
    if #children(parent, 1) == 0 then call('ZREM', FREED, parent) end
  end
end
-- Those of a concurrency key that are blocked, in the order of their turn.
local function first_blocked(name, limit)
  local first = prefix('b', name)
  return call('ZRANGEBYLEX', KEYED, '[' .. first, '(' .. first .. '\255', 'LIMIT', 0, limit)
end
-- Priority, limit, queue and id of a blocked one.
local function read_blocked(member)
  local at = 4 + unp('>H', member, 2)
  return 100 - byte(member, at), unp('>I4', member, at + 9), sub(member, at + 14, -17), sub(member, -16)
end
local function blocked_as(id)
  local entry = call('ZRANGEBYLEX', KEYED, '[i' .. id, '(i' .. id .. '\255', 'LIMIT', 0, 1)[1]
  return entry and sub(entry, 18)
end
local function unblock(queue, member)
  local id = sub(member, -16)
  open()
  call('ZREM', KEYED, member, 'i' .. id .. member)
  call('ZREM', queue_key(queue, BLOCKED), id)
end
-- A job of this key has left: the first one that it blocked goes, if there is room.
local function let_next(name, index_of, stirred)
  local member = first_blocked(name, 1)[1]
  if not member then return end
  local priority, limit, queue_name, id = read_blocked(member)
  local queue = index_of[queue_name]
  if not queue or running_of(name) >= limit then return end
  unblock(queue, member)
  local body = call('HGET', JOBS, id)
  if body then
    local _, _, _, _, _, _, _, _, suspect = header(body)
    enter(suspect and P_SUSPECT or P_FRONT, queue, id, priority)
    stirred[id] = true
  end
end

-- Asks a job to end; 1 if it has not.
local function ask(id)
  if has_ended(id) then return 0 end
  open()
  call('ZADD', ASKED, 0, id)
  used = true
  awake = true
  return 1
end

-- Adds one new job: `c` created, `e` this id is kept already, `x` and an id when that job holds the key,
-- `p` and an id when that parent is not kept. `kept` is the stored record of that id, if any. A step
-- of a run comes without an event, and is never refused.
-- Plan: how it starts, queue, priority, time; then length of the unique key, the key, until when it is
-- held at least (as a delay), parents.
local created = {}
local function add(id, plan, body, event, names, kept)
  if kept or created[id] then return 'e' end
  local start, high, low, priority = byte(plan, 1, 4)
  local queue = high * 256 + low
  if priority > 127 then priority = priority - 256 end
  local parents = ''
  if #plan > 12 then
    local length = unp('>H', plan, 13)
    local unique, lasts = sub(plan, 15, 14 + length), unp('>I8', plan, 15 + length)
    parents = sub(plan, 23 + length)
    local other = length > 0 and holder(unique)
    if other and event then return 'x' .. other end
    for at = 1, #parents, 16 do
      local parent = sub(parents, at, at + 15)
      if not created[parent] and call('HEXISTS', JOBS, parent) == 0 then return 'p' .. parent end
    end
    if length > 0 then
      hold(unique, id, lasts > 0 and pack('>I8', now + lasts) or nil)
      if lasts > 0 then gather(zadd, UNTIL, string.format('%.0f', now + lasts), unique) end
    end
  end
  created[id] = true
  know(queue, names[queue + 1])
  local place, due = P_PENDING, 0
  if start == 3 then
    place, due = P_HELD, now
    flush(frees)
    tie(id, parents)
  elseif start ~= 0 then
    due = unp('>I8', plan, 5)
    if start == 1 then due = now + due end
    if due > now then
      place = P_SCHEDULED
      body = placed(body, P_SCHEDULED)
      if event then event = '\2' .. sub(event, 2) end
    end
  end
  if place == P_PENDING and byte(body) == LONG then place = header(body) end
  local n = #set_jobs
  set_jobs[n + 1] = id
  set_jobs[n + 2] = body
  enter(place, queue, id, priority, due)
  if event then log[#log + 1] = event end
  return 'c'
end

-- Adds jobs from the arguments: plans (each behind its length), lengths of their events, their events;
-- and then (id, record) of each from `records` on. Codes go to `answers`.
local function add_all(jobs, plans, lengths, events, records, names, kept, answers)
  local plan_at, event_at = 1, 1
  for i = 1, jobs do
    local plan_length, event_length = unp('>H', plans, plan_at), unp('>H', lengths, 2 * i - 1)
    local plan = sub(plans, plan_at + 2, plan_at + 1 + plan_length)
    local event = sub(events, event_at, event_at + event_length - 1)
    plan_at = plan_at + 2 + plan_length
    event_at = event_at + event_length
    answers[i] = add(ARGV[records + 2 * i - 2], plan, ARGV[records + 2 * i - 1], event, names, kept[i])
  end
end
