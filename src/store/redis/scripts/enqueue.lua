-- Adds new work. ARGV: producer, `sequence chunk jobs runs queues plain`, limit of the event log, event
-- defaults, the jobs' plans (each behind its length), lengths of their events, their events, queue
-- names, (id, record) of each job, then (gate, effects) of each run. `plain`: all jobs go to the end of the first
-- queue's line, without unique keys; then nothing is looked at one by one.
-- Answers one code an item; `>` when an earlier part of the batch has not arrived; `<` when a later
-- batch of this producer has.
frees = false
local producer, head, limit, defaults, plans, lengths, events = arg(), arg(), arg(), arg(), arg(), arg(), arg()
local chunk, jobs, runs, queues, plain = unp('>HHHHB', head, 9)
local sequence = sub(head, 1, 8)
local names = {}
for i = 1, queues do names[i] = arg() end

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

local answers = {}
local records, ids = cursor + 1, {}
cursor = cursor + 2 * jobs
for i = 1, jobs do ids[i] = ARGV[records + 2 * i - 2] end
local kept = jobs > 0 and call('HMGET', JOBS, unpack(ids)) or {}
if plain == 1 then
  for i = 1, jobs do
    if kept[i] then
      plain = 0
      break
    end
  end
end
if plain == 1 then
  call('HSET', JOBS, unpack(ARGV, records, records + 2 * jobs - 1))
  call('RPUSH', queue_key(0, LINE), unpack(ids))
  know(0, names[1])
  log[1] = events
  awake = true
  answers[1] = string.rep('c', jobs)
else
  add_all(jobs, plans, lengths, events, records, names, kept, answers)
end
for _ = 1, runs do
  local gate = arg()
  local effects = read_effects()
  effects.gate = gate
  local code = start_run(effects, names)
  answers[#answers + 1] = code
end

local answer = concat(answers)
local before = ''
if parts > 0 then before = sub(memory, 19) end
gather(hset, PRODUCERS, producer, sequence .. pack('>I8H', now, chunk + 1) .. before .. pack('>H', #answer) .. answer)
flush(false)
publish(defaults, limit)
return answer
