-- Strikes a worker off; its leases lapse with that. ARGV: worker, limit of the event log, event. The last
-- key is the set of workers that are told to take no more work.
local worker, limit, goodbye = arg(), arg(), arg()
call('SREM', KEYS[#KEYS], worker)
if call('HDEL', WORKERS, worker) == 1 then
  log[1] = goodbye
  awake = true
end
publish('\0\0', limit)
return 1
