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
-- A lane's job stops running, and this many of its tokens are done.
local function note_stopped(lane, now, tokens)
  local key = bucket_of(lane, math.floor(now / BUCKET))
  local found = redis.call('HMGET', lane, 'running', 'busy_since')
  redis.call('HSET', lane, 'running', (found[1] or 0) - 1, 'busy_since', now)
  redis.call('HINCRBY', key, 'tokens', tokens)
  redis.call('HINCRBY', key, 'busy', now - (found[2] or now))
  redis.call('PEXPIRE', key, 2 * BUCKET * BUCKETS)
end
-- Tokens per ms of work that the lane has ended within the last minute; nil if none. Found once a second: `kept`
-- are the lane's fields 'rate' and 'rate_at'.
local function drain_rate(lane, now, kept)
  if kept[1] and math.abs(now - kept[2]) < 1000 then return tonumber(kept[1]) end
  local newest = math.floor(now / BUCKET)
  local tokens, busy = 0, 0
  for number = newest - BUCKETS + 1, newest do
    local found = redis.call('HMGET', bucket_of(lane, number), 'tokens', 'busy')
    tokens, busy = tokens + (found[1] or 0), busy + (found[2] or 0)
  end
  if tokens == 0 then return nil end
  local since = redis.call('HMGET', lane, 'running', 'busy_since')
  if tonumber(since[1]) > 0 then busy = busy + now - since[2] end
  local rate = tokens / math.max(busy, 1)
  redis.call('HSET', lane, 'rate', rate, 'rate_at', now)
  return rate
end
