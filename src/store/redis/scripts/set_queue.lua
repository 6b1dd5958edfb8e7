-- Writes a queue's settings. ARGV: name, settings, those of a queue that nobody has set, limit of the
-- event log, events for a pause, its end, and any other change.
local name, settings, untouched, limit = arg(), arg(), arg(), arg()
local paused, resumed, set = arg(), arg(), arg()
local before = call('HGET', QUEUES, name)
if not before or #before == 1 then before = (before or '\0') .. sub(untouched, 2) end
call('HDEL', QUEUES, name)
call('HSET', QUEUES, name, settings)
local was, is = byte(before) % 2, byte(settings) % 2
if was < is then
  log[1] = paused
elseif was > is then
  log[1] = resumed
elseif before ~= settings then
  log[1] = set
end
awake = true
publish('\0\0', limit)
return 1
