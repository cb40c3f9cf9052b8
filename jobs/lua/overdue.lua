-- Lists running jobs whose lease has ended, with their generation and attempts.
-- KEYS  1 running zset
-- ARGV  1 prefix of job keys  2 at most
-- returns a flat list: id, generation, attempts, …
local out = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now_ms(), 'LIMIT', 0, ARGV[2])) do
  local found = redis.call('HMGET', ARGV[1] .. id, 'generation', 'attempts')
  if found[1] then
    table.insert(out, id)
    table.insert(out, found[1])
    table.insert(out, found[2])
  else
    redis.call('ZREM', KEYS[1], id)
  end
end
return out
