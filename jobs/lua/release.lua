-- Puts a running job back into its queue, to be announced again.
-- KEYS  1 job  2 running zset  3 unannounced zset
-- ARGV  1 id  2 generation  3 allowed predecessors  4 new state  5 attempts to charge (0 | 1)
--       6 deaths of an engine to charge (0 | 1)
-- returns OK | REFUSED | SUPERSEDED | MISSING
local found = redis.call('HMGET', KEYS[1], 'state', 'generation', 'queued_in', 'created_at', 'tokens')
if not found[1] then return 'MISSING' end
if found[2] ~= ARGV[2] then return 'SUPERSEDED' end
if not allowed_from(found[1], ARGV[3]) then return 'REFUSED' end
redis.call('HSET', KEYS[1], 'state', ARGV[4], 'scored', 0)
redis.call('HDEL', KEYS[1], 'worker', 'started_at', 'announced_at')
redis.call('HINCRBY', KEYS[1], 'attempts', ARGV[5])
redis.call('HINCRBY', KEYS[1], 'deaths', ARGV[6])
redis.call('HINCRBY', lane_of(found[3]), 'tokens', found[5])
note_stopped(lane_of(found[3]), now_ms(), 0)
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZADD', found[3], found[4], ARGV[1])
redis.call('ZADD', KEYS[3], now_ms(), ARGV[1])
redis.call('PUBLISH', 'podium:events:' .. ARGV[4], ARGV[1])
return 'OK'
