-- Changes a schedule and starts what it starts. ARGV: name, revision it was seen with, the new record
-- without its revision or '' to delete it, limit of the event log, `jobs runs queues tells events`, ids of
-- jobs to be asked to end, the jobs' plans, lengths of their events, their events, queue names, (id,
-- record) of each job, (gate, effects) of each run, (run, fact) of each fact, events. The last key holds the
-- schedules. Answers codes as an enqueue does, or nil if the schedule has changed.
frees = false
local name, seen, record, limit, head, cancel = arg(), arg(), arg(), arg(), arg(), arg()
local plans, lengths, events = arg(), arg(), arg()
local jobs, runs, queues, tells, said = unp('>HHHHH', head)
local kept = call('HGET', KEYS[#KEYS], name)
local rev = kept and sub(kept, 1, 8) or pack('>I8', 0)
if rev ~= seen then return false end
local names = {}
for i = 1, queues do names[i] = arg() end
if record == '' then
  call('HDEL', KEYS[#KEYS], name)
else
  call('HSET', KEYS[#KEYS], name, pack('>I8', unp('>I8', rev) + 1) .. record)
end
local records, answers, known = cursor + 1, {}, {}
cursor = cursor + 2 * jobs
for i = 1, jobs do known[i] = call('HEXISTS', JOBS, ARGV[records + 2 * i - 2]) == 1 end
add_all(jobs, plans, lengths, events, records, names, known, answers)
for _ = 1, runs do
  local gate = arg()
  local effects = read_effects()
  effects.gate = gate
  local code = start_run(effects, names)
  answers[#answers + 1] = code
end
flush(false)
for at = 1, #cancel, 16 do ask(sub(cancel, at, at + 15)) end
for _ = 1, tells do
  local run = arg()
  tell_if_kept(run, arg())
end
for _ = 1, said do log[#log + 1] = arg() end
flush(false)
publish('\0\0', limit)
return concat(answers)
