-- Notes that a job's doorbell was rung.
-- KEYS  1 job  2 unannounced zset
-- ARGV  1 id
-- returns OK | MISSING
redis.call('ZREM', KEYS[2], ARGV[1])
if redis.call('EXISTS', KEYS[1]) == 0 then return 'MISSING' end
redis.call('HSET', KEYS[1], 'announced_at', now_ms())
return 'OK'
