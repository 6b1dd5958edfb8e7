-- Keeps definitions by hash, and makes each the current one of its kind and name. It uses no part of
-- the other scripts. KEYS: definitions, current ones. ARGV: (hash, record, kind and name) of each.
for i = 1, #ARGV, 3 do
  redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
  redis.call('HSET', KEYS[2], ARGV[i + 2], ARGV[i])
end
return 1
