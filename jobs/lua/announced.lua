-- Notes that the doorbells of some jobs were rung.
-- KEYS  1 unannounced zset  2.. jobs
-- ARGV  1.. their ids
for i = 2, #KEYS do
  redis.call('ZREM', KEYS[1], ARGV[i - 1])
  if redis.call('EXISTS', KEYS[i]) == 1 then redis.call('HSET', KEYS[i], 'announced_at', now_ms()) end
end
