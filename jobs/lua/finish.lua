-- Ends a job: terminal state, result or error, TTL, and the callback made due, all or nothing.
-- KEYS  1 job  2 running zset  3 unannounced zset  4 callback  5 callbacks zset  6 deadlines zset  7 work  8 result
--       9 zset of ended jobs
-- ARGV  1 id  2 generation ('' for any: the caller or the clock ends it)  3 allowed predecessors  4 new state
--       5 result ('' for none)  6 error ('' for none)  7 scored ('' for as many as are noted)
--       8 callback body ('' for none)  9 callback record TTL in s
--       10 ms until the sweeper rings for the callback: the caller rings at once  11 keep the work as long (0 | 1)
-- returns OK | REFUSED | SUPERSEDED | MISSING
local found = redis.call('HMGET', KEYS[1], 'state', 'generation', 'result_ttl', 'callback', 'queued_in', 'tokens', 'owner', 'ends',
  'start_by', 'finish_by')
local state, generation, ttl, callback, queue, tokens, owner, ends, start_by, finish_by = unpack(found, 1, 10)
if not state then return 'MISSING' end
if ARGV[2] ~= '' and generation ~= ARGV[2] then return 'SUPERSEDED' end
if not allowed_from(state, ARGV[3]) then return 'REFUSED' end
local now = now_ms()
if redis.call('ZREM', KEYS[2], ARGV[1]) == 1 then
  note_stopped(lane_of(queue), now, ARGV[2] ~= '' and tokens or 0)
else
  redis.call('ZREM', queue, ARGV[1])
  redis.call('ZREM', KEYS[3], ARGV[1])
  redis.call('HINCRBY', lane_of(queue), 'tokens', -tokens)
end
local fields = {'state', ARGV[4], 'ended_at', now, 'ends', (ends or 0) + 1}
for name, value in pairs({error = ARGV[6], scored = ARGV[7]}) do
  if value ~= '' then
    table.insert(fields, name)
    table.insert(fields, value)
  end
end
redis.call('HSET', KEYS[1], unpack(fields))
if ARGV[5] ~= '' then redis.call('SET', KEYS[8], ARGV[5], 'EX', ttl) end
if ARGV[11] == '1' then redis.call('EXPIRE', KEYS[7], ttl) else redis.call('DEL', KEYS[7]) end
redis.call('EXPIRE', KEYS[1], ttl)
redis.call('ZADD', KEYS[9], now + ttl * 1000, ARGV[1] .. ':' .. owner)
if start_by or finish_by then redis.call('ZREM', KEYS[6], ARGV[1]) end
if callback and ARGV[8] ~= '' then
  redis.call('HSET', KEYS[1], 'callback_state', 'pending')
  redis.call('HSET', KEYS[4], 'state', 'pending', 'target', callback, 'body', ARGV[8], 'attempts', 0, 'owner', owner)
  redis.call('EXPIRE', KEYS[4], ARGV[9])
  redis.call('ZADD', KEYS[5], now + tonumber(ARGV[10]), ARGV[1])
end
redis.call('PUBLISH', 'podium:events:' .. ARGV[4], ARGV[1])
return 'OK'
