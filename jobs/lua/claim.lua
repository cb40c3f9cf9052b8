-- Gives a worker the lease on a queued job: a compare-and-set, so a second doorbell is harmless.
-- KEYS  1 job  2 running zset  3 unannounced zset
-- ARGV  1 id  2 worker  3 lease in ms  4 allowed predecessors  5 new state
-- returns {OK, now, hash as a flat list} | {REFUSED} | {MISSING}
local state = redis.call('HGET', KEYS[1], 'state')
if not state then return {'MISSING'} end
if not allowed_from(state, ARGV[4]) then return {'REFUSED'} end
local now = now_ms()
local lease_until = now + tonumber(ARGV[3])
redis.call('HINCRBY', KEYS[1], 'generation', 1)
redis.call('HSET', KEYS[1], 'state', ARGV[5], 'worker', ARGV[2], 'started_at', now, 'scored', 0)
redis.call('ZREM', redis.call('HGET', KEYS[1], 'queued_in'), ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('ZADD', KEYS[2], lease_until, ARGV[1])
redis.call('PUBLISH', 'podium:events', ARGV[1])
return {'OK', now, redis.call('HGETALL', KEYS[1])}
