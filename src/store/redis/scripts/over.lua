-- Removes documents and locks whose time is over. It uses no part of the other scripts. KEYS: documents, their
-- names, names by when their time is over, locks, names by when the last grant ends. ARGV: limit.
local clock = call('TIME')
local now = clock[1] * 1000 + floor(clock[2] / 1000)
local limit = min(tonumber(ARGV[1]), 1000)
local documents = call('ZRANGEBYSCORE', KEYS[3], '-inf', now, 'LIMIT', 0, limit)
if #documents > 0 then
  call('HDEL', KEYS[1], unpack(documents))
  call('ZREM', KEYS[2], unpack(documents))
  call('ZREM', KEYS[3], unpack(documents))
end
local locks = call('ZRANGEBYSCORE', KEYS[5], '-inf', now, 'LIMIT', 0, limit)
if #locks > 0 then
  call('HDEL', KEYS[4], unpack(locks))
  call('ZREM', KEYS[5], unpack(locks))
end
return #documents + #locks
