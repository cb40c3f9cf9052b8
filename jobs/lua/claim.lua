-- Gives a worker the lease on a queued job: a compare-and-set, so a second doorbell is harmless.
-- KEYS  1 job  2 running zset  3 unannounced zset  4 deadlines zset  5 work
-- ARGV  1 id  2 worker  3 lease in ms  4 allowed predecessors  5 new state  6 a name for this very call
--       7.. the fields that are wanted
-- returns {OK, now, generation, those fields' values, work} | {REFUSED} | {MISSING} | {LATE} (a deadline has passed: it must expire)
local found = redis.call('HMGET', KEYS[1], 'state', 'start_by', 'finish_by', 'claim', 'queued_in', 'tokens', 'announced_at',
  'created_at', 'generation', 'inside', unpack(ARGV, 7, #ARGV - 1))
local state, start_by, finish_by, claim, queue, tokens, announced_at, created_at, generation, inside = unpack(found, 1, 10)
if not state then return {'MISSING'} end
local now = now_ms()
local function claimed()
  return {'OK', now, tonumber(generation), {unpack(found, 11, #ARGV + 3)}, redis.call('GET', KEYS[5])}
end
-- The answer to this call was lost with its connection, and the client asks again.
if state == ARGV[5] and claim == ARGV[6] then return claimed() end
if not allowed_from(state, ARGV[4]) then return {'REFUSED'} end
for _, by in ipairs({start_by, finish_by}) do
  if by and tonumber(by) <= now then return {'LATE'} end
end
generation = generation + 1
redis.call('HSET', KEYS[1], 'state', ARGV[5], 'worker', ARGV[2], 'started_at', now, 'scored', 0, 'claim', ARGV[6], 'generation', generation)
if start_by or inside then redis.call('HDEL', KEYS[1], 'start_by', 'inside') end
redis.call('ZREM', queue, ARGV[1])
if not announced_at then redis.call('ZREM', KEYS[3], ARGV[1]) end
redis.call('ZADD', KEYS[2], now + tonumber(ARGV[3]), ARGV[1])
if finish_by then redis.call('ZADD', KEYS[4], finish_by, ARGV[1])
elseif start_by then redis.call('ZREM', KEYS[4], ARGV[1]) end

local key = lane_of(queue)
local lane = redis.call('HMGET', key, 'tokens', 'running', 'busy_since', 'claimed_through')
local running = (lane[2] or 0) + 1
local through = math.max(lane[4] or 0, announced_at or created_at) -- claimed before the ringing was noted
redis.call('HSET', key, 'tokens', (lane[1] or 0) - tokens, 'running', running, 'claimed_through', through,
  'busy_since', running == 1 and now or lane[3] or now)
redis.call('PUBLISH', 'podium:events:' .. ARGV[5], ARGV[1])
return claimed()
