-- Stores a job as queued, not yet announced; or finds the job that the same idempotency key has made.
-- KEYS  1 job  2 queued zset  3 unannounced zset  4 lanes set  5 deadlines zset  6 idempotency key
-- ARGV  1 id  2 ms in which it must start ('' for any)  3 ms in which it must end ('' for any)
--       4 hash of the request ('' without an idempotency key)  5 how long that is remembered, in s
--       6.. fields and values
-- returns {OK} | {REFUSED} (the id exists) | {REPLAYED, id} | {CONFLICT} (the key came with another request)
if ARGV[4] ~= '' then
  local found = redis.call('HMGET', KEYS[6], 'job', 'request')
  if found[1] then
    if found[2] == ARGV[4] then return {'REPLAYED', found[1]} end
    return {'CONFLICT'}
  end
end
if redis.call('EXISTS', KEYS[1]) == 1 then return {'REFUSED'} end
local now = now_ms()
for i = 6, #ARGV - 1, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
redis.call('HSET', KEYS[1], 'created_at', now, 'generation', 0, 'attempts', 0, 'scored', 0)
redis.call('ZADD', KEYS[2], now, ARGV[1])
redis.call('ZADD', KEYS[3], now, ARGV[1])
redis.call('SADD', KEYS[4], KEYS[2])
for i, name in ipairs({'start_by', 'finish_by'}) do
  if ARGV[i + 1] ~= '' then
    local by = now + tonumber(ARGV[i + 1])
    redis.call('HSET', KEYS[1], name, by)
    redis.call('ZADD', KEYS[5], 'LT', by, ARGV[1])
  end
end
if ARGV[4] ~= '' then
  redis.call('HSET', KEYS[6], 'job', ARGV[1], 'request', ARGV[4])
  redis.call('EXPIRE', KEYS[6], ARGV[5])
end
return {'OK'}
