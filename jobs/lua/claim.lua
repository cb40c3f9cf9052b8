-- Gives a worker the lease on a queued job: a compare-and-set, so a second doorbell is harmless.
-- KEYS  1 job  2 running zset  3 unannounced zset  4 deadlines zset  5 work
-- ARGV  1 id  2 worker  3 lease in ms  4 allowed predecessors  5 new state  6 a name for this very call
-- returns {OK, now, hash as a flat list, work} | {REFUSED} | {MISSING} | {LATE} (a deadline has passed: it must expire)
local found = redis.call('HMGET', KEYS[1], 'state', 'start_by', 'finish_by', 'claim', 'queued_in', 'tokens', 'announced_at', 'created_at')
if not found[1] then return {'MISSING'} end
local now = now_ms()
-- The answer to this call was lost with its connection, and the client asks again.
if found[1] == ARGV[5] and found[4] == ARGV[6] then
  return {'OK', now, redis.call('HGETALL', KEYS[1]), redis.call('GET', KEYS[5])}
end
if not allowed_from(found[1], ARGV[4]) then return {'REFUSED'} end
for _, by in ipairs({found[2], found[3]}) do
  if by and tonumber(by) <= now then return {'LATE'} end
end
redis.call('HINCRBY', KEYS[1], 'generation', 1)
redis.call('HSET', KEYS[1], 'state', ARGV[5], 'worker', ARGV[2], 'started_at', now, 'scored', 0, 'claim', ARGV[6])
redis.call('HDEL', KEYS[1], 'start_by', 'inside')
redis.call('ZREM', found[5], ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('ZADD', KEYS[2], now + tonumber(ARGV[3]), ARGV[1])
if found[3] then redis.call('ZADD', KEYS[4], found[3], ARGV[1]) else redis.call('ZREM', KEYS[4], ARGV[1]) end
local lane = lane_of(found[5])
redis.call('HINCRBY', lane, 'tokens', -tonumber(found[6]))
note_started(lane, now)
local through = tonumber(redis.call('HGET', lane, 'claimed_through') or 0)
local announced = found[7] or found[8] -- claimed before the ringing was noted
if tonumber(announced) > through then redis.call('HSET', lane, 'claimed_through', announced) end
redis.call('PUBLISH', 'podium:events:' .. ARGV[5], ARGV[1])
return {'OK', now, redis.call('HGETALL', KEYS[1]), redis.call('GET', KEYS[5])}
