-- Stores a job as queued, with its doorbell's message in Celery's list: announced, or not yet if there is none. Or finds the
-- job that the same idempotency key has made. Or refuses it, since its lane is full, and says when there will be room.
-- KEYS  1 job  2 queued zset  3 unannounced zset  4 lanes set  5 deadlines zset  6 idempotency key  7 work
--       8 the owner's jobs  9 lane hash  10 Celery's list
-- ARGV  1 id  2 ms in which it must start ('' for any)  3 ms in which it must end ('' for any)
--       4 hash of the request ('' without an idempotency key)  5 how long that is remembered, in s
--       6 work  7 its tokens, estimated  8 tokens that may wait  9 jobs that may wait
--       10 share of maxmemory that waiting jobs may fill  11 the message ('' for none)  12.. fields and values
-- returns {OK, now, how many stand before it, when it will begin in ms or -1} | {REFUSED} (the id exists) | {REPLAYED, id} | {CONFLICT} (the key came with another request)
--       | {FULL, ms until there is room, or -1 if that is not known} | {NO_MEMORY}
if ARGV[4] ~= '' then
  local found = redis.call('HMGET', KEYS[6], 'job', 'request')
  if found[1] then
    if found[2] == ARGV[4] then return {'REPLAYED', found[1]} end
    return {'CONFLICT'}
  end
end
if redis.call('EXISTS', KEYS[1]) == 1 then return {'REFUSED'} end
local now = now_ms()

-- What lies above the share is the reserve: results of accepted jobs still fit in.
if not has_room(#ARGV[6], ARGV[10]) then return {'NO_MEMORY'} end

local cost, bound = tonumber(ARGV[7]), tonumber(ARGV[8])
local lane = redis.call('HMGET', KEYS[9], 'tokens', 'room_at', 'rate', 'rate_at')
local waiting, jobs = tonumber(lane[1] or 0), redis.call('ZCARD', KEYS[2])
local missing = waiting + cost - bound
if jobs >= tonumber(ARGV[9]) then missing = math.max(missing, (jobs + 1 - tonumber(ARGV[9])) * waiting / jobs) end
if missing > 0 then
  local rate = drain_rate(KEYS[9], now, {lane[3], lane[4]})
  if not rate then return {'FULL', -1} end
  -- Each refused caller is told a later time: room for one is not promised to all.
  local room_at = math.max(now + missing / rate, tonumber(lane[2] or 0) + cost / rate)
  -- A caller that does not listen must not push the others' time away for ever.
  room_at = math.ceil(math.min(room_at, now + 10 * bound / rate))
  redis.call('HSET', KEYS[9], 'room_at', room_at)
  return {'FULL', room_at - now}
end

-- First what may fail, as the list is another's: nobody sees it before this script has ended.
if ARGV[11] == '' then
  redis.call('ZADD', KEYS[3], now, ARGV[1])
else
  redis.call('LPUSH', KEYS[10], ARGV[11])
  redis.call('HSET', KEYS[1], 'announced_at', now)
end
redis.call('HSET', KEYS[1], 'created_at', now, 'tokens', cost, 'generation', 0, 'attempts', 0, 'deaths', 0, 'scored', 0,
  unpack(ARGV, 12, #ARGV - 1))
redis.call('SET', KEYS[7], ARGV[6])
redis.call('HINCRBY', KEYS[9], 'tokens', cost)
redis.call('ZADD', KEYS[2], now, ARGV[1])
redis.call('ZADD', KEYS[8], now, ARGV[1])
if jobs == 0 then redis.call('SADD', KEYS[4], KEYS[2]) end
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
local rate = drain_rate(KEYS[9], now, {lane[3], lane[4]})
return {'OK', now, jobs, rate and math.ceil(now + waiting / rate) or -1}
