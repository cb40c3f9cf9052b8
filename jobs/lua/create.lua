-- Stores a job as queued, not yet announced.
-- KEYS  1 job  2 queued zset  3 unannounced zset  4 lanes set
-- ARGV  1 id  2.. pairs of field and value
-- returns OK | REFUSED (the id exists)
if redis.call('EXISTS', KEYS[1]) == 1 then return 'REFUSED' end
local now = now_ms()
for i = 2, #ARGV - 1, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
redis.call('HSET', KEYS[1], 'created_at', now, 'generation', 0, 'attempts', 0, 'scored', 0)
redis.call('ZADD', KEYS[2], now, ARGV[1])
redis.call('ZADD', KEYS[3], now, ARGV[1])
redis.call('SADD', KEYS[4], KEYS[2])
return 'OK'
