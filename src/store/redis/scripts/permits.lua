-- Gives out permits by the generic cell rate algorithm (ITU-T I.371), as `Rate::reserve` does. It uses no
-- part of the other scripts. KEYS: buckets. ARGV: (bucket, interval, tolerance, count) of each wish, times
-- in microseconds. Answers the waits of each.
local clock = call('TIME')
local now = clock[1] * 1000000 + clock[2]
local answers = {}
for i = 1, #ARGV, 4 do
  local bucket, interval, tolerance = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  local due, waits = tonumber(call('HGET', KEYS[1], bucket) or 0), {}
  for n = 1, tonumber(ARGV[i + 3]) do
    waits[n] = math.max(now, due - tolerance) - now
    due = math.max(due, now) + interval
  end
  call('HSET', KEYS[1], bucket, string.format('%.0f', due))
  answers[#answers + 1] = waits
end
return answers
