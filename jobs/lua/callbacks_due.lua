-- Lists callbacks whose time has come, and postpones each: it comes again if nothing follows from its doorbell.
-- KEYS  1 callbacks zset
-- ARGV  1 how long to postpone, in ms  2 at most
-- returns a list of ids
local now = now_ms()
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[2])
for _, id in ipairs(due) do redis.call('ZADD', KEYS[1], now + tonumber(ARGV[1]), id) end
return due
