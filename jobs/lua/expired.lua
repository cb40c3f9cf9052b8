-- Lists jobs whose deadline has passed, with the state in which they must still be to expire ('' for any).
-- KEYS  1 deadlines zset
-- ARGV  1 prefix of job keys  2 at most  3 the state that waits for its start
-- returns a flat list: id, state, …
local out = {}
local now = now_ms()
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[2])) do
  local found = redis.call('HMGET', ARGV[1] .. id, 'state', 'finish_by')
  if found[1] then
    table.insert(out, id)
    table.insert(out, (found[2] and tonumber(found[2]) <= now) and '' or ARGV[3])
  else
    redis.call('ZREM', KEYS[1], id)
  end
end
return out
