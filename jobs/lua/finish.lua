-- Ends a job: terminal state, result or error, TTL, and the callback made due, all or nothing.
-- KEYS  1 job  2 running zset  3 unannounced zset  4 callback  5 callbacks zset  6 deadlines zset  7 work  8 result
--       9 zset of ended jobs
-- ARGV  1 id  2 generation ('' for any: the caller or the clock ends it)  3 allowed predecessors  4 new state
--       5 result ('' for none)  6 error ('' for none)  7 scored ('' for as many as are noted)
--       8 callback body ('' for none)  9 callback record TTL in s
--       10 ms until the sweeper rings for the callback: the caller rings at once  11 keep the work as long (0 | 1)
-- returns OK | REFUSED | SUPERSEDED | MISSING
local found = redis.call('HMGET', KEYS[1], 'state', 'generation', 'result_ttl', 'callback', 'queued_in', 'tokens', 'owner')
if not found[1] then return 'MISSING' end
if ARGV[2] ~= '' and found[2] ~= ARGV[2] then return 'SUPERSEDED' end
if not allowed_from(found[1], ARGV[3]) then return 'REFUSED' end
local now, ttl = now_ms(), tonumber(found[3])
local lane = lane_of(found[5])
if redis.call('ZREM', found[5], ARGV[1]) == 1 then
  redis.call('HINCRBY', lane, 'tokens', -tonumber(found[6]))
else
  note_stopped(lane, now, ARGV[2] ~= '' and found[6] or 0)
end
redis.call('HSET', KEYS[1], 'state', ARGV[4], 'ended_at', now)
if ARGV[5] ~= '' then redis.call('SET', KEYS[8], ARGV[5], 'EX', ttl) end
if ARGV[6] ~= '' then redis.call('HSET', KEYS[1], 'error', ARGV[6]) end
if ARGV[7] ~= '' then redis.call('HSET', KEYS[1], 'scored', ARGV[7]) end
redis.call('HINCRBY', KEYS[1], 'ends', 1)
if ARGV[11] == '1' then redis.call('EXPIRE', KEYS[7], ttl) else redis.call('DEL', KEYS[7]) end
redis.call('EXPIRE', KEYS[1], ttl)
redis.call('ZADD', KEYS[9], now + ttl * 1000, ARGV[1] .. ':' .. found[7])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('ZREM', KEYS[6], ARGV[1])
if found[4] and ARGV[8] ~= '' then
  redis.call('HSET', KEYS[1], 'callback_state', 'pending')
  redis.call('HSET', KEYS[4], 'state', 'pending', 'target', found[4], 'body', ARGV[8], 'attempts', 0, 'owner', found[7])
  redis.call('EXPIRE', KEYS[4], ARGV[9])
  redis.call('ZADD', KEYS[5], now + tonumber(ARGV[10]), ARGV[1])
end
redis.call('PUBLISH', 'podium:events:' .. ARGV[4], ARGV[1])
return 'OK'
