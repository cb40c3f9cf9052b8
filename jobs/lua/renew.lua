-- Prolongs a lease and notes the progress.
-- KEYS  1 job  2 running zset
-- ARGV  1 id  2 generation  3 lease in ms  4 scored so far  5 the state that holds leases
--       6 the engine is about to be given the job (0 | 1)
-- returns OK | REFUSED (not running) | SUPERSEDED | MISSING
local found = redis.call('HMGET', KEYS[1], 'state', 'generation')
if not found[1] then return 'MISSING' end
if found[2] ~= ARGV[2] then return 'SUPERSEDED' end
if found[1] ~= ARGV[5] then return 'REFUSED' end
redis.call('ZADD', KEYS[2], now_ms() + tonumber(ARGV[3]), ARGV[1])
redis.call('HSET', KEYS[1], 'scored', ARGV[4])
if ARGV[6] == '1' then redis.call('HSET', KEYS[1], 'inside', 1) end
return 'OK'
