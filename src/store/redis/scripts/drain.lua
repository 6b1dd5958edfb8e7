-- Tells a worker to take no more work. ARGV: worker, limit of the event log, event. The last key is the
-- set of those that were told. Answers 0 if it is not registered.
local worker, limit, event = arg(), arg(), arg()
if call('HEXISTS', WORKERS, worker) == 0 then return 0 end
open()
if call('SADD', KEYS[#KEYS], worker) == 1 then log[1] = event end
publish('\0\0', limit)
return 1
