-- Lists waiting jobs that have had no doorbell for a while, and postpones each: two sweepers ring once.
-- KEYS  1 unannounced zset
-- ARGV  1 how long, in ms  2 at most
-- returns a list of ids
local now = now_ms()
local found = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now - tonumber(ARGV[1]), 'LIMIT', 0, ARGV[2])
for _, id in ipairs(found) do redis.call('ZADD', KEYS[1], 'XX', now, id) end
return found
