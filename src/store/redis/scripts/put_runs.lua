-- Puts runs in, and deletes a document: all or nothing. The last three KEYS are documents, their names, and names
-- by when their time is over. ARGV: name and revision of the document, by how many ms clocks may differ, the ids
-- of the runs, then of each run its record, when it ended or '', its gate or '' (limit, whether it is inside, length
-- of the key, key, fact), how many entries, timers, values and events it has, and these: facts; (key, due, fact) of
-- each timer; values behind their keys; events behind their time. Answers 1, or 0.
frees = false
local name, rev, ahead, ids = arg(), arg(), arg(), arg()
local there = call('HGET', KEYS[#KEYS - 2], name)
if not there or sub(there, 1, 8) ~= rev then return 0 end
for at = 1, #ids, 16 do
  if call('HEXISTS', RUNS, sub(ids, at, at + 15)) == 1 then return 0 end
end
-- `Epoch::above_others`, by the clock here.
take('e', 0, (now + tonumber(ahead)) * 1024)
local keys = {}
for at = 1, #ids, 16 do
  local run = sub(ids, at, at + 15)
  local record, finished, gate, counts = arg(), arg(), arg(), arg()
  local entries, timers, values, events = unp('>I4I4I4I4', counts)
  gather(hset, RUNS, run, record)
  if finished == '' then
    gather(zadd, LIVE, 0, run)
  else
    gather(zadd, FINISHED, 0, run)
    gather(zadd, ENDED, finished, run)
  end
  if gate ~= '' then
    local limit, inside, length = unp('>I4BH', gate)
    local key, go = sub(gate, 8, 7 + length), sub(gate, 8 + length)
    local turn = pack('>I8', take('s', 1, now * 1024))
    if inside == 1 then
      gather(zadd, GATES, 0, prefix('i', key) .. run)
    else
      gather(zadd, GATES, 0, prefix('w', key) .. turn .. run)
    end
    gather(zadd, GATES, 0, 'r' .. run .. pack('>I4', limit) .. turn .. pack('>H', #key) .. key .. go)
    keys[#keys + 1] = key
  end
  for _ = 1, entries do tell(run, arg()) end
  for _ = 1, timers do
    local key, due, fact = arg(), arg(), arg()
    gather(zadd, TIMERS, due, run .. key)
    gather(zadd, FACTS, 0, run .. key .. fact)
  end
  for _ = 1, values do gather(zadd, VALUES, 0, run .. arg()) end
  local position = take('s', events, now * 1024)
  for i = 0, events - 1 do gather(zadd, HISTORY, 0, run .. pack('>I8', position + i) .. arg()) end
end
flush(false)
call('HDEL', KEYS[#KEYS - 2], name)
call('ZREM', KEYS[#KEYS - 1], name)
call('ZREM', KEYS[#KEYS], name)
gated = true
for i = 1, #keys do admit(keys[i]) end
flush(false)
awake = true
publish('\0\0', 1)
return 1
