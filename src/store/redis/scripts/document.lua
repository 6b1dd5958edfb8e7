-- Changes a document if it still has the revision that was seen. It uses no part of the other scripts. KEYS:
-- documents, their names, names by when their time is over, counters. ARGV: name, revision, how long it is kept in
-- ms or '', '1' and the body, or '0' to delete it. Answers 1 and the new revision (0: it is gone), or 0 and what is
-- kept. A record is `revision until body`; until 0 is for ever.
local name, seen, keep, has, body = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local clock = call('TIME')
local now = clock[1] * 1000 + floor(clock[2] / 1000)
local kept = call('HGET', KEYS[1], name)
if kept then
  local over = unp('>I8', kept, 9)
  if over > 0 and over <= now then kept = false end
end
if (kept and sub(kept, 1, 8) or pack('>I8', 0)) ~= seen then return { 0, kept or '' } end
if has == '0' then
  call('HDEL', KEYS[1], name)
  call('ZREM', KEYS[2], name)
  call('ZREM', KEYS[3], name)
  return { 1, pack('>I8', 0) }
end
-- The clock is its floor: a server that lost its last second does not give a revision twice.
local rev = math.max(tonumber(call('HGET', KEYS[4], 'd') or 0) + 1, now * 1000)
local over = keep == '' and 0 or now + tonumber(keep)
call('HSET', KEYS[4], 'd', string.format('%.0f', rev))
call('HSET', KEYS[1], name, pack('>I8I8', rev, over) .. body)
call('ZADD', KEYS[2], 0, name)
if over > 0 then
  call('ZADD', KEYS[3], over, name)
else
  call('ZREM', KEYS[3], name)
end
return { 1, pack('>I8', rev) }
