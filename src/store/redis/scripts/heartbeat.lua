-- Registers a worker or prolongs it, and with it all its leases; brings parked jobs of its types back
-- to the heads of their lines. ARGV: worker, lease in ms, its description, limit of the event log,
-- event when new, number of queues, types. The queues are those of KEYS; the last key is the set of
-- workers that are told to take no more work.
local worker, hold_for, info, limit, hello, queues = arg(), arg(), arg(), arg(), arg(), tonumber(arg())
local is_new = call('HEXISTS', WORKERS, worker) == 0
-- Deleting first lets a full server take the beat: without it every lease would lapse.
call('HDEL', WORKERS, worker)
call('HSET', WORKERS, worker, pack('>I8', now + tonumber(hold_for)) .. info)
if is_new then log[1] = hello end

for queue = 0, queues - 1 do
  local key = queue_key(queue, PARKED)
  if call('ZCARD', key) > 0 then
    local found = {}
    for at = cursor + 1, #ARGV do
      local kind = ARGV[at]
      local parked = call('ZRANGEBYLEX', key, '[' .. kind .. '\0', '(' .. kind .. '\1', 'LIMIT', 0, 500)
      for i = 1, #parked do found[#found + 1] = parked[i] end
    end
    -- The last one put at a head is the first one out: the oldest goes last.
    -- As numbers: strings are compared by the locale of the server.
    table.sort(found, function(a, b) return unp('>I8', a, #a - 23) > unp('>I8', b, #b - 23) end)
    for i = 1, #found do
      local id = sub(found[i], -16)
      gather(zrem, key, found[i])
      local body = call('HGET', JOBS, id)
      if body then
        local _, _, _, _, priority, _, _, _, suspect = header(body)
        enter(suspect and P_SUSPECT or P_FRONT, queue, id, priority)
      end
    end
  end
end
flush(true)
publish('\0\0', limit)

local held = {}
local running = call('HGETALL', RUNNING)
for i = 2, #running, 2 do
  if sub(running[i], 1, 16) == worker then
    held[#held + 1] = running[i - 1] .. sub(running[i], 17, 24)
  end
end
return { now, concat(held), call('SISMEMBER', KEYS[#KEYS], worker) }
