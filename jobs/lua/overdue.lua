-- Lists running jobs whose lease has ended.
-- KEYS  1 running zset
-- ARGV  1 prefix of job keys  2 at most
-- returns a flat list: id, generation, attempts, whether the engine was given it as a suspect (0 | 1), …
local out = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now_ms(), 'LIMIT', 0, ARGV[2])) do
  local found = redis.call('HMGET', ARGV[1] .. id, 'generation', 'attempts', 'inside')
  if found[1] then
    for _, value in ipairs({id, found[1], found[2], found[3] or '0'}) do table.insert(out, value) end
  else
    redis.call('ZREM', KEYS[1], id)
  end
end
return out
