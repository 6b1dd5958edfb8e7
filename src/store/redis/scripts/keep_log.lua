-- Keeps a log in place of a job's own, if it is scheduled in this queue and has this revision. ARGV: job, revision,
-- then the chunks as `note` writes them. Answers 1, or 0.
local job, wanted = arg(), tonumber(arg())
local kept = call('HGET', JOBS, job)
if not kept then return 0 end
local _, rev = header(kept)
if rev ~= wanted or not call('ZSCORE', queue_key(0, SCHEDULED), job) then return 0 end
call('ZREMRANGEBYLEX', LOGS, '[' .. job, '(' .. job .. '\255')
while cursor < #ARGV do call('ZADD', LOGS, 0, arg()) end
return 1
