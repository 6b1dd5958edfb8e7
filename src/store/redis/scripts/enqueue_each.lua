-- The end of an enqueue whose items are looked at one by one.
frees = false
cursor = 4
local plans, lengths, events = arg(), arg(), arg()
local names = {}
for i = 1, queues do names[i] = arg() end
cursor = cursor + 2 * jobs
local answers = {}
add_all(jobs, plans, lengths, events, records, names, kept, answers)
for _ = 1, runs do
  local gate = arg()
  local effects = read_effects()
  effects.gate = gate
  local code = start_run(effects, names)
  answers[#answers + 1] = code
end
local answer = concat(answers)
gather(hset, PRODUCERS, producer, remembered(answer))
flush(false)
publish(defaults, limit)
return answer
