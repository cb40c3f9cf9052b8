-- Lists waiting jobs that have had no doorbell for a while.
-- KEYS  1 unannounced zset
-- ARGV  1 how long, in ms  2 at most
-- returns a list of ids
return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now_ms() - tonumber(ARGV[1]), 'LIMIT', 0, ARGV[2])
