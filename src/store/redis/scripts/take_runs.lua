-- Takes runs out, with all that is kept of them, and writes a document: all or nothing. The last three KEYS are
-- documents, their names, and names by when their time is over. ARGV: name, revision (0: there is none) and new body
-- of the document, then `run revision last` of each run, the last being the number of the last entry of its inbox.
-- Answers 1, or 0.
local name, seen, body, runs = arg(), arg(), arg(), arg()
local there = call('HGET', KEYS[#KEYS - 2], name)
if there then
  local over = unp('>I8', there, 9)
  if over > 0 and over <= now then there = nil end
end
if (there and sub(there, 1, 8) or pack('>I8', 0)) ~= seen then return 0 end
local taken = {}
for at = 1, #runs, 32 do
  local run = sub(runs, at, at + 15)
  local record = call('HGET', RUNS, run)
  if not record or sub(record, 1, 8) ~= sub(runs, at + 16, at + 23) then return 0 end
  local last = call('ZREVRANGEBYLEX', INBOX, '(' .. run .. '\255', '[' .. run, 'LIMIT', 0, 1)[1]
  if (last and sub(last, 17, 24) or pack('>I8', 0)) ~= sub(runs, at + 24, at + 31) then return 0 end
  taken[run] = true
end
-- Nobody else may stand at their gates: whoever does would be let in.
local left, looked_at = {}, {}
for run in pairs(taken) do
  local _, turn, key = gate_of(run)
  local stands = key and (call('ZSCORE', GATES, prefix('i', key) .. run) or call('ZSCORE', GATES, prefix('w', key) .. turn .. run))
  if stands and not looked_at[key] then
    looked_at[key] = true
    local first = prefix('i', key)
    local inside = call('ZRANGEBYLEX', GATES, '[' .. first, '(' .. first .. BEHIND)
    for _, members in ipairs({ inside, waiting_of(key, -1) }) do
      for i = 1, #members do
        if not taken[sub(members[i], -16)] then return 0 end
        left[#left + 1] = members[i]
      end
    end
  end
end
open()
many('ZREM', GATES, left)
for run in pairs(taken) do
  drop_run(run)
end
flush(true)
-- The clock is its floor, as that of every document's revision.
local rev = math.max(tonumber(call('HGET', COUNTERS, 'd') or 0) + 1, now * 1000)
call('HSET', COUNTERS, 'd', string.format('%.0f', rev))
call('HSET', KEYS[#KEYS - 2], name, pack('>I8I8', rev, 0) .. body)
call('ZADD', KEYS[#KEYS - 1], 0, name)
call('ZREM', KEYS[#KEYS], name)
return 1
