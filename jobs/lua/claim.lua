-- Gives a worker the lease on a queued job: a compare-and-set, so a second doorbell is harmless.
-- KEYS  1 job  2 running zset  3 unannounced zset  4 deadlines zset
-- ARGV  1 id  2 worker  3 lease in ms  4 allowed predecessors  5 new state
-- returns {OK, now, hash as a flat list} | {REFUSED} | {MISSING} | {LATE} (a deadline has passed: it must expire)
local found = redis.call('HMGET', KEYS[1], 'state', 'start_by', 'finish_by')
if not found[1] then return {'MISSING'} end
if not allowed_from(found[1], ARGV[4]) then return {'REFUSED'} end
local now = now_ms()
for _, by in ipairs({found[2], found[3]}) do
  if by and tonumber(by) <= now then return {'LATE'} end
end
local lease_until = now + tonumber(ARGV[3])
redis.call('HINCRBY', KEYS[1], 'generation', 1)
redis.call('HSET', KEYS[1], 'state', ARGV[5], 'worker', ARGV[2], 'started_at', now, 'scored', 0)
redis.call('HDEL', KEYS[1], 'start_by')
redis.call('ZREM', redis.call('HGET', KEYS[1], 'queued_in'), ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('ZADD', KEYS[2], lease_until, ARGV[1])
if found[3] then redis.call('ZADD', KEYS[4], found[3], ARGV[1]) else redis.call('ZREM', KEYS[4], ARGV[1]) end
redis.call('PUBLISH', 'podium:events', ARGV[1])
return {'OK', now, redis.call('HGETALL', KEYS[1])}
