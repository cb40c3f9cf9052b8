-- Records one attempt to deliver a callback and what follows from it.
-- KEYS  1 callback  2 callbacks zset  3 job
-- ARGV  1 id  2 new state  3 ms until the next attempt (-1 for none)  4 the attempt as JSON
-- returns OK | REFUSED (settled already) | MISSING
local state = redis.call('HGET', KEYS[1], 'state')
if not state then
  redis.call('ZREM', KEYS[2], ARGV[1])
  return 'MISSING'
end
if state ~= 'pending' then return 'REFUSED' end
local n = redis.call('HINCRBY', KEYS[1], 'attempts', 1)
redis.call('HSET', KEYS[1], 'state', ARGV[2], 'attempt:' .. n, ARGV[4])
redis.call('HDEL', KEYS[1], 'held_until')
if tonumber(ARGV[3]) >= 0 then
  redis.call('ZADD', KEYS[2], now_ms() + tonumber(ARGV[3]), ARGV[1])
else
  redis.call('ZREM', KEYS[2], ARGV[1])
end
if redis.call('EXISTS', KEYS[3]) == 1 then redis.call('HSET', KEYS[3], 'callback_state', ARGV[2]) end
redis.call('PUBLISH', 'podium:events:callback', ARGV[1])
return 'OK'
