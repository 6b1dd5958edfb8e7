-- Takes back what is current of a kind and name. KEYS: current ones. ARGV: kind and name.
return redis.call('HDEL', KEYS[1], ARGV[1])
