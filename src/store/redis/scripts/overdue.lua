-- Finds jobs with lapsed leases and jobs parked for too long, and strikes silent workers off. ARGV:
-- how long parked is too long in ms, limit, number of queues, limit of the event log, event of a lost
-- worker without its id. The last key is the set of workers that are told to take no more work.
local too_long, limit, queues = tonumber(arg()), tonumber(arg()), tonumber(arg())
local log_limit, lost = arg(), arg()
local alive, silent = {}, {}
local workers = call('HGETALL', WORKERS)
for i = 1, #workers, 2 do
  if unp('>I8', workers[i + 1]) >= now then
    alive[workers[i]] = true
  else
    silent[#silent + 1] = workers[i]
    log[#log + 1] = lost .. workers[i]
  end
end
local ids, found_leases = {}, {}
local running = call('HGETALL', RUNNING)
for i = 1, #running, 2 do
  local lease = running[i + 1]
  if #ids < limit and (not alive[sub(lease, 1, 16)] or unp('>I8', lease, 25) < now) then
    ids[#ids + 1] = running[i]
    found_leases[#found_leases + 1] = lease
  end
end

-- Parked jobs lie by type, oldest first: the head of each type is enough to go by.
local parked = {}
for queue = 0, queues - 1 do
  local key = queue_key(queue, PARKED)
  local from = '-'
  while #parked < limit do
    local head = call('ZRANGEBYLEX', key, from, '+', 'LIMIT', 0, 1)[1]
    if not head then break end
    local kind = sub(head, 1, -26)
    local last = '(' .. kind .. '\0'
    if too_long <= now then last = last .. pack('>I8', (now - too_long + 1) * 1024) end
    local old = call('ZRANGEBYLEX', key, '[' .. kind .. '\0', last, 'LIMIT', 0, limit - #parked)
    for i = 1, #old do parked[#parked + 1] = sub(old[i], -16) end
    from = '(' .. kind .. '\1'
  end
end

local bodies, orphans = {}, {}
for i = 1, #ids do
  bodies[i] = call('HGET', JOBS, ids[i])
  if not bodies[i] then orphans[#orphans + 1] = ids[i] end
end
-- A lease without a record has nothing to give back.
many('HDEL', RUNNING, orphans)
many('HDEL', WORKERS, silent)
many('SREM', KEYS[#KEYS], silent)
publish('\0\0', log_limit)
local parked_bodies = {}
for i = 1, #parked do parked_bodies[i] = call('HGET', JOBS, parked[i]) end
return { now, ids, found_leases, bodies, parked, parked_bodies }
