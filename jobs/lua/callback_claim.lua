-- Gives one deliverer the right to attempt a callback: a compare-and-set, so a second doorbell is harmless.
-- KEYS  1 callback  2 callbacks zset
-- ARGV  1 id  2 how long the attempt may take, in ms
-- returns OK | REFUSED (settled, or somebody is at it) | MISSING
local found = redis.call('HMGET', KEYS[1], 'state', 'held_until')
if not found[1] then
  redis.call('ZREM', KEYS[2], ARGV[1])
  return 'MISSING'
end
local now = now_ms()
if found[1] ~= 'pending' or (found[2] and tonumber(found[2]) > now) then return 'REFUSED' end
local held_until = now + tonumber(ARGV[2])
redis.call('HSET', KEYS[1], 'held_until', held_until)
redis.call('ZADD', KEYS[2], held_until, ARGV[1])
return 'OK'
