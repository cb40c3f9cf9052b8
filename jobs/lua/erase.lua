-- Forgets a job that has ended, its result and its callback, now.
-- KEYS  1 job  2 result  3 work  4 callback  5 callbacks zset  6 zset of ended jobs  7 the owner's jobs
-- ARGV  1 id  2 owner  3 the states in which it has ended
-- returns OK | REFUSED (it has not ended) | MISSING (there is none, or not this owner's)
local found = redis.call('HMGET', KEYS[1], 'state', 'owner')
if found[2] ~= ARGV[2] then return 'MISSING' end
if not allowed_from(found[1], ARGV[3]) then return 'REFUSED' end
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3], KEYS[4])
redis.call('ZREM', KEYS[5], ARGV[1])
redis.call('ZREM', KEYS[6], ARGV[1] .. ':' .. ARGV[2])
redis.call('ZREM', KEYS[7], ARGV[1])
return 'OK'
