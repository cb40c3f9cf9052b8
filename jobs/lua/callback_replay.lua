-- Makes a settled callback due again, with its schedule from the start.
-- KEYS  1 callback  2 callbacks zset  3 job
-- ARGV  1 id  2 ms until the sweeper rings: the caller rings at once
-- returns OK | REFUSED (it is pending) | MISSING
local state = redis.call('HGET', KEYS[1], 'state')
if not state then return 'MISSING' end
if state == 'pending' then return 'REFUSED' end
redis.call('HSET', KEYS[1], 'state', 'pending', 'replayed_after', redis.call('HGET', KEYS[1], 'attempts'))
redis.call('ZADD', KEYS[2], now_ms() + tonumber(ARGV[2]), ARGV[1])
if redis.call('EXISTS', KEYS[3]) == 1 then redis.call('HSET', KEYS[3], 'callback_state', 'pending') end
return 'OK'
