-- The part about what lies beside jobs, as far as a claim needs it too: ties to parents, concurrency keys.

-- Whether anybody was asked to end, told of progress, or waits for a parent.
local used = false

-- Ties: `c` child parent and `p` parent child, by bytes; parents that have ended are in FREED for as
-- long as somebody is tied to them.
local function children(parent, limit)
  return call('ZRANGEBYLEX', TIES, '[p' .. parent, '(p' .. parent .. BEHIND, 'LIMIT', 0, limit)
end
-- A job has ended, is gone, or lives again.
local function tell_children(parent, ended)
  if not ended then
    call('ZREM', FREED, parent)
  elseif #children(parent, 1) > 0 then
    open()
    call('ZADD', FREED, 0, parent)
  end
end

-- Concurrency keys, by bytes: `r` key id of jobs that run, `b` key turn limit queue id of those that are
-- blocked, `i` id and the latter again.
local function prefix(kind, name)
  return kind .. pack('>H', #name) .. name
end
local function running_of(name)
  local first = prefix('r', name)
  return call('ZLEXCOUNT', KEYED, '[' .. first, '(' .. first .. BEHIND)
end
local function block(id, queue, queue_name, name, limit, priority)
  open()
  local turn = char(100 - priority) .. pack('>I8', take('b', 1, 0))
  local member = prefix('b', name) .. turn .. pack('>I4B', limit, #queue_name) .. queue_name .. id
  call('ZADD', KEYED, 0, member, 0, 'i' .. id .. member)
  call('ZADD', queue_key(queue, BLOCKED), now, id)
end
