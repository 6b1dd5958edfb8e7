-- The end of an exchange: promotes what is due, claims, and answers.
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
      local _, _, _, _, priority, _, _, _, suspect = header(body)
      enter(suspect and P_SUSPECT or P_PENDING, queue, id, priority)
    end
  end
end

-- The next `want` ids of a line: marked entries and those without a record are passed over.
local function pop_line(queue, want, out, marked)
  local line, tombs = queue_key(queue, LINE), queue_key(queue, TOMBS)
  while want > 0 do
    local asked = want
    local popped = call('LPOP', line, asked)
    if not popped then break end
    for i = 1, #popped do
      if not marked or call('SREM', tombs, popped[i]) == 0 then
        out[#out + 1] = popped[i]
        want = want - 1
      end
    end
    if #popped < asked then break end
  end
  return want
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
  local asked, rooms, others = {}, {}, {}
  for i = 28, #claim, 2 do
    local queue = unp('>H', claim, i)
    local settings = call('HGET', QUEUES, names[queue + 1])
    -- Most queues have a line and nothing else, and one look at all that may be beside it tells.
    if call('EXISTS', queue_key(queue, SCHEDULED), queue_key(queue, RETRYING), queue_key(queue, PRIO),
      queue_key(queue, SUSPECT), queue_key(queue, TOMBS)) > 0 then
      others[queue] = true
      promote(queue)
    end
    if settings then
      local flags = byte(settings)
      if flags % 2 == 0 then asked[#asked + 1] = queue end
      if flags >= 2 then rooms[queue] = unp('>I4', settings, 2) end
    end
  end
  flush(true)
  -- Of queues with a limit: how many more may run. What runs is little, and lies in one place.
  if next(rooms) then
    local running = call('HVALS', RUNNING)
    for queue in pairs(rooms) do
      local tail = names[queue + 1] .. string.rep('\0', 25 - #names[queue + 1])
      for i = 1, #running do
        if sub(running[i], 41) == tail then rooms[queue] = rooms[queue] - 1 end
      end
    end
  end

  local function lease(queue, popped)
    local read = call('HMGET', JOBS, unpack(popped))
    local name = names[queue + 1]
    local endless = ends_of(name, 9007199254740992)
    local first, ours, entries = take('e', #popped, now * 1024), {}, {}
    if epoch == 0 then epoch = first end
    local before = #claimed
    for i = 1, #popped do
      local body, id, rest = read[i], popped[i], endless
      local kind = body and byte(body)
      if kind and (kind >= 32 or kind == LONG) then
        local _, _, run, timeout, priority, _, concurrency, limit = header(body)
        if concurrency and running_of(concurrency) >= limit then
          block(id, queue, name, concurrency, limit, priority)
          body = false
        elseif concurrency then
          open()
          call('ZADD', KEYED, 0, prefix('r', concurrency) .. id)
        end
        if timeout then rest = ends_of(name, min(now + timeout + grace, 9007199254740992)) end
        if run and body and told_runs[run] == nil then
          -- Once, however many of its steps are claimed: the header of a large run is large.
          local record = call('HGET', RUNS, run)
          told_runs[run] = record
          if record then
            records[#records + 1] = run
            records[#records + 1] = record
          end
        end
      end
      if body then
        local n = #ours + 1
        ours[n] = id
        claimed[before + n], bodies[before + n] = id, body
        leases(entries, worker, { id }, 2 * n - 1, epoch + before + n - 1, rest)
      end
    end
    if #ours > 0 then
      many('HSET', RUNNING, entries)
      claims = (claims or worker) .. claims_of(name, ours)
    end
    if rooms[queue] then rooms[queue] = rooms[queue] - #ours end
    return #ours
  end

  local function room(queue, most)
    return rooms[queue] and min(most, rooms[queue]) or most
  end
  for _, queue in ipairs(asked) do
    if carried[queue] then want = want - lease(queue, carried[queue]) end
  end
  if want > 0 and alone % 2 == 1 then
    for _, queue in ipairs(asked) do
      local key = queue_key(queue, SUSPECT)
      while others[queue] and #claimed == 0 and room(queue, 1) > 0 do
        local id = call('LPOP', key)
        if not id then break end
        lease(queue, { id })
      end
    end
  end
  if want > 0 and (#claimed == 0 or next(carried)) then
    for _, queue in ipairs(asked) do
      local most = room(queue, want)
      while most > 0 do
        local popped, left = {}, most
        local prioritised = others[queue] and call('ZCARD', queue_key(queue, PRIO)) > 0
        if prioritised then left = pop_scores(queue, '-inf', '(0', left, popped) end
        if left > 0 then
          left = pop_line(queue, left, popped, others[queue] and call('SCARD', queue_key(queue, TOMBS)) > 0)
        end
        if left > 0 and prioritised then left = pop_scores(queue, '(0', '+inf', left, popped) end
        if left > 0 and not rooms[queue] then fresh[queue] = nil end
        if #popped == 0 then break end
        -- What was taken out freed memory: the writes that follow are let through.
        opened = true
        local got = lease(queue, popped)
        want = want - got
        most = most - got
        if left > 0 then break end
      end
      if want <= 0 then break end
    end
  end
  for i = 28, #claim, 2 do
    local queue = unp('>H', claim, i)
    if others[queue] and room(queue, 1) > 0 then suspects = suspects + call('LLEN', queue_key(queue, SUSPECT)) end
  end
end
flush(true)
publish(defaults, limit, claims)
local has_dirty = false
if call('EXISTS', TIMERS, DIRTY) > 0 then
  local timer = call('ZRANGE', TIMERS, 0, 0, 'WITHSCORES')
  if timer[1] and claim ~= '' then sooner(timer[2]) end
  local dirty = call('ZRANGE', DIRTY, 0, 0, 'WITHSCORES')
  has_dirty = dirty[1] and tonumber(dirty[2]) <= now
end
-- One text for all ids: each part of an answer costs both sides.
return {
  now, suspects, has_dirty and 1 or 0, next_due or -1, epoch,
  used and call('ZCARD', ASKED) or 0, used and call('ZCARD', FREED) or 0,
  concat(answers), concat(claimed), bodies, records,
}
