-- Finds parents that have ended while jobs are tied to them. ARGV: limit of children.
-- Answers (parent, its place or -1, children) of each.
local limit = tonumber(arg())
local found, count, from = {}, 0, 0
while count < limit do
  local page = call('ZRANGE', FREED, from, from + 99)
  if #page == 0 then break end
  from = from + #page
  for i = 1, #page do
    if count >= limit then break end
    local ties, body = children(page[i], limit - count), call('HGET', JOBS, page[i])
    for j = 1, #ties do ties[j] = sub(ties[j], 18) end
    count = count + #ties
    if #ties > 0 then found[#found + 1] = { page[i], body and (header(body)) or -1, concat(ties) } end
  end
end
return found
