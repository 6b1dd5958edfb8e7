-- Adds new work. ARGV: producer, `sequence chunk jobs runs queues`, limit of the event log, event
-- defaults, queue names, job ids, then (plan, body, event) of each job, then the runs' effects.
-- Answers one code an item; `>` when an earlier part of the batch has not arrived; `<` when a later
-- batch of this producer has.
local producer, head, limit, defaults = arg(), arg(), arg(), arg()
local chunk, jobs, runs, queues = unp('>HHHH', head, 9)
local sequence = sub(head, 1, 8)
local names = {}
for i = 1, queues do names[i] = arg() end

-- What the producer's last batch was answered: sequence, time, parts, then each part's answer.
local memory, parts = call('HGET', PRODUCERS, producer), 0
if memory then
  local last = sub(memory, 1, 8)
  if last > sequence then return '<' end
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
local ids = cursor + 1
cursor = cursor + jobs
local kept = jobs > 0 and call('HMGET', JOBS, unpack(ARGV, ids, ids + jobs - 1)) or {}
for i = 1, jobs do
  answers[i] = add(ARGV[ids + i - 1], arg(), arg(), arg(), names, kept[i])
end
for i = 1, runs do
  local effects = read_effects()
  if created[effects.run] or call('HEXISTS', RUNS, effects.run) == 1 then
    answers[jobs + i] = 'e'
  else
    created[effects.run] = true
    apply_effects(effects, names)
    answers[jobs + i] = 'c'
  end
end

local answer = concat(answers)
local before = ''
if parts > 0 then before = sub(memory, 19) end
gather(hset, PRODUCERS, producer, sequence .. pack('>I8H', now, chunk + 1) .. before .. pack('>H', #answer) .. answer)
flush(false)
publish(defaults, limit)
return answer
