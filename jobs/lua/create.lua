-- Stores a job as queued, not yet announced.
-- KEYS  1 job  2 queued zset  3 unannounced zset  4 lanes set  5 deadlines zset
-- ARGV  1 id  2 ms in which it must start ('' for any)  3 ms in which it must end ('' for any)  4.. fields and values
-- returns OK | REFUSED (the id exists)
if redis.call('EXISTS', KEYS[1]) == 1 then return 'REFUSED' end
local now = now_ms()
for i = 4, #ARGV - 1, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
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
return 'OK'
