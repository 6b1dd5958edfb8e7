-- Adds new work. ARGV: producer, `sequence chunk jobs runs queues plain`, limit of the event log, event
-- defaults, the jobs' plans (each behind its length), lengths of their events, their events, queue
-- names, (id, record) of each job, then (gate, effects) of each run. `plain`: all jobs go to the end of the first
-- queue's line, without unique keys; then nothing is looked at one by one, and none of what the parts behind this
-- one define is needed.
-- Answers one code an item; `>` when an earlier part of the batch has not arrived; `<` when a later
-- batch of this producer has.
local producer, head, limit, defaults = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local chunk, jobs, runs, queues, plain = unp('>HHHHB', head, 9)
local sequence = sub(head, 1, 8)

-- What the producer's last batch was answered: sequence, time, parts, then each part's answer.
local memory, parts = call('HGET', PRODUCERS, producer), 0
if memory then
  local last = sub(memory, 1, 8)
  -- As numbers: strings are compared by the locale of the server.
  if unp('>I8', last) > unp('>I8', sequence) then return '<' end
  if last == sequence then
    parts = unp('>H', memory, 17)
    if chunk < parts then
      local at = 19
      for _ = 1, chunk do at = at + 2 + unp('>H', memory, at) end
      return sub(memory, at + 2, at + 1 + unp('>H', memory, at))
    end
  end
end
if chunk > parts then return '>' end
local function remembered(answer)
  local before = parts > 0 and sub(memory, 19) or ''
  return sequence .. pack('>I8H', now, chunk + 1) .. before .. pack('>H', #answer) .. answer
end

local records, ids = 8 + queues, {}
for i = 1, jobs do ids[i] = ARGV[records + 2 * i - 2] end
local kept = jobs > 0 and call('HMGET', JOBS, unpack(ids)) or {}
if plain == 1 then
  for i = 1, jobs do
    if kept[i] then plain = 0 end
  end
end
if plain == 1 then
  local name, answer = ARGV[8], string.rep('c', jobs)
  call('HSET', JOBS, unpack(ARGV, records, records + 2 * jobs - 1))
  call('RPUSH', queue_key(0, LINE), unpack(ids))
  if call('HEXISTS', QUEUES, name) == 0 then call('HSET', QUEUES, name, '\0') end
  call('HSET', PRODUCERS, producer, remembered(answer))
  call('XADD', EVENTS, 'MAXLEN', '~', limit, '*', 'e', defaults .. ARGV[7])
  call('PUBLISH', HINT, '')
  return answer
end
