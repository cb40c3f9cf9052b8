-- Takes due callbacks for one round of delivery: each is due again after `hold` unless it is settled before.
-- KEYS  1 callbacks zset
-- ARGV  1 hold in ms  2 at most
-- returns a list of ids
local now = now_ms()
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[2])
for _, id in ipairs(due) do redis.call('ZADD', KEYS[1], now + tonumber(ARGV[1]), id) end
return due
