-- Writes a queue's settings. ARGV: name, settings, limit of the event log, event when the pause
-- changes.
local name, settings, limit, event = arg(), arg(), arg(), arg()
local before = call('HGET', QUEUES, name)
call('HDEL', QUEUES, name)
call('HSET', QUEUES, name, settings)
local was = before and byte(before) or 0
if was ~= byte(settings) then log[1] = event end
awake = true
publish('\0\0', limit)
return 1
