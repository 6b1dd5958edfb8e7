-- Keeps what running jobs tell. ARGV: limit of the event log, bound of a log in bytes, then of each note
-- its job, epoch, progress or '', text, beginning and end of the event of its progress.
-- In LOGS each chunk is `job number time epoch sum text`, the sum being that of all texts up to it.
local log_limit, bound = arg(), tonumber(arg())
local answers = {}
local function edge(command, job)
  local first, last = '[' .. job, '(' .. job .. '\255'
  if command == 'ZREVRANGEBYLEX' then first, last = last, first end
  return call(command, LOGS, first, last, 'LIMIT', 0, 1)[1]
end
while cursor < #ARGV do
  local job, epoch, progress, text, event, rest = arg(), arg(), arg(), arg(), arg(), arg()
  local lease = call('HGET', RUNNING, job)
  local holds = lease and sub(lease, 17, 24) == epoch
  answers[#answers + 1] = holds and 1 or 0
  if holds and (progress ~= '' or text ~= '') then open() end
  if holds and progress ~= '' then
    call('HSET', PROGRESS, job, epoch .. progress)
    local queue = string.match(sub(lease, 41), '^[^%z]+')
    log[#log + 1] = event .. job .. char(#queue) .. queue .. sub(lease, 1, 16) .. rest
  end
  if holds and text ~= '' then
    local last = edge('ZREVRANGEBYLEX', job)
    local number = last and unp('>I8', last, 17) or 0
    local sum = (last and unp('>I8', last, 41) or 0) + #text
    call('ZADD', LOGS, 0, job .. pack('>I8I8', number + 1, now) .. epoch .. pack('>I8', sum) .. text)
    local first = edge('ZRANGEBYLEX', job)
    while sum - unp('>I8', first, 41) + #first - 48 > bound do
      call('ZREM', LOGS, first)
      first = edge('ZRANGEBYLEX', job)
      if not first then break end
    end
  end
end
publish('\0\0', log_limit)
return answers
