-- What every script begins with: the clock, and the keys of queues: they are only ever taken from KEYS, and each
-- queue brings as many, in the same order.

local function queue_key(queue, which)
  return KEYS[which + queue * STRIDE]
end

local clock = call('TIME')
local now = clock[1] * 1000 + floor(clock[2] / 1000)
-- As text, because Redis writes numbers of this size out slowly.
local now_text = string.format('%.0f', now)
