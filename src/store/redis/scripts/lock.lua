-- Gives, prolongs and ends grants of one lock. It uses no part of the other scripts. KEYS: locks, names by when the
-- last grant ends, counters, channel of hints, events. ARGV: verb, name, holder, time to live in ms, slots, what
-- the holder says about itself, limit of the event log, event of a break. Verbs: acquire, extend, release one
-- (with '' all) and tell nobody, break one or all. Answers a code, the time, and the grants it is about, as they
-- are kept: `slots (holder fence since until length about)*`. Codes: g granted, h held, s held with other slots,
-- n none, e ended.
local verb, name, holder, ttl, slots, about = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6]
local clock = call('TIME')
local now = clock[1] * 1000 + floor(clock[2] / 1000)
local kept, most = call('HGET', KEYS[1], name), slots
local grants, own = {}, false
if kept then
  most = unp('>I4', kept)
  local at = 5
  while at <= #kept do
    local fence, since, over, length = unp('>I8I8I8H', kept, at + 16)
    local one = { sub(kept, at, at + 15), fence, since, over, sub(kept, at + 42, at + 41 + length) }
    at = at + 42 + length
    if over > now then
      grants[#grants + 1] = one
      if one[1] == holder then own = one end
    end
  end
end

local function packed(list)
  local parts = { pack('>I4', most) }
  for i = 1, #list do
    local one = list[i]
    parts[i + 1] = one[1] .. pack('>I8I8I8H', one[2], one[3], one[4], #one[5]) .. one[5]
  end
  return concat(parts)
end

local function keep(list)
  local last = 0
  for i = 1, #list do last = math.max(last, list[i][4]) end
  if #list == 0 then
    call('HDEL', KEYS[1], name)
    call('ZREM', KEYS[2], name)
  else
    call('HSET', KEYS[1], name, packed(list))
    call('ZADD', KEYS[2], last, name)
  end
end

if verb == 'acquire' then
  if own then
    own[4] = math.max(own[4], now + ttl)
  elseif #grants > 0 and most ~= slots then
    return { 's', now, packed(grants) }
  elseif #grants >= slots then
    return { 'h', now, packed(grants) }
  else
    local fence = math.max(tonumber(call('HGET', KEYS[3], 'l') or 0) + 1, now * 1000)
    -- First of all, for it is what a full server refuses.
    call('HSET', KEYS[3], 'l', string.format('%.0f', fence))
    own, most = { holder, fence, now, now + ttl, about }, slots
    grants[#grants + 1] = own
  end
  keep(grants)
  return { 'g', now, packed({ own }) }
end

-- A full server judges a script by its first write: this one frees, and so the others are let through.
if verb == 'extend' then
  if not own then return { 'n', now, '' } end
  call('HDEL', KEYS[1], '')
  own[4] = now + ttl
  keep(grants)
  return { 'g', now, packed({ own }) }
end

local left, ended = {}, {}
for i = 1, #grants do
  local list = (holder == '' or grants[i][1] == holder) and ended or left
  list[#list + 1] = grants[i]
end
if #ended > 0 then
  call('HDEL', KEYS[1], '')
  keep(left)
  if verb == 'break' then call('XADD', KEYS[5], 'MAXLEN', '~', ARGV[7], '*', 'e', '\0\0' .. ARGV[8]) end
  call('PUBLISH', KEYS[4], '')
end
return { 'e', now, packed(ended) }
