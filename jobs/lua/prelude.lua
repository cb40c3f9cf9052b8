-- Stands before every script. The last argument of each call is a clock offset in ms: 0, but in tests.
local function now_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000) + tonumber(ARGV[#ARGV])
end
-- Does this much more stay below a share of maxmemory?
local function has_room(bytes, share)
  local memory = redis.call('INFO', 'memory')
  local most = tonumber(string.match(memory, '\nmaxmemory:(%d+)') or 0)
  local used = tonumber(string.match(memory, '\nused_memory:(%d+)') or 0)
  return most == 0 or used + bytes <= most * tonumber(share)
end
-- Is `state` one of the names in the comma-separated list `allowed`?
local function allowed_from(state, allowed)
  return string.find(',' .. allowed .. ',', ',' .. state .. ',', 1, true) ~= nil
end
-- The hash of a lane, from the name of its queue.
local function lane_of(queue)
  return (string.gsub(queue, '^podium:queued:', 'podium:lane:'))
end
-- What a lane has ended, and how long it was at work, is kept in buckets of 5 s for a minute.
local BUCKET, BUCKETS = 5000, 12
local function bucket_of(lane, number)
  return lane .. ':drained:' .. number
end
-- A lane's job begins to run.
local function note_started(lane, now)
  if redis.call('HINCRBY', lane, 'running', 1) == 1 then redis.call('HSET', lane, 'busy_since', now) end
end
-- A lane's job stops running, and this many of its tokens are done.
local function note_stopped(lane, now, tokens)
  local key = bucket_of(lane, math.floor(now / BUCKET))
  redis.call('HINCRBY', lane, 'running', -1)
  redis.call('HINCRBY', key, 'tokens', tokens)
  redis.call('HINCRBY', key, 'busy', now - tonumber(redis.call('HGET', lane, 'busy_since') or now))
  redis.call('HSET', lane, 'busy_since', now)
  redis.call('PEXPIRE', key, 2 * BUCKET * BUCKETS)
end
-- Tokens per ms of work that the lane has ended within the last minute; nil if none.
local function drain_rate(lane, now)
  local newest = math.floor(now / BUCKET)
  local tokens, busy = 0, 0
  for number = newest - BUCKETS + 1, newest do
    local found = redis.call('HMGET', bucket_of(lane, number), 'tokens', 'busy')
    tokens, busy = tokens + (found[1] or 0), busy + (found[2] or 0)
  end
  if tokens == 0 then return nil end
  local since = redis.call('HMGET', lane, 'running', 'busy_since')
  if tonumber(since[1]) > 0 then busy = busy + now - since[2] end
  return tokens / math.max(busy, 1)
end
-- When a job that waits at a place of its queue will begin, in ms, as the queue was drained lately; nil if it was not.
local function starts_at(lane, queue, position, now)
  local rate = drain_rate(lane, now)
  if not rate then return nil end
  local ahead = tonumber(redis.call('HGET', lane, 'tokens') or 0) * position / redis.call('ZCARD', queue)
  return math.ceil(now + ahead / rate)
end
