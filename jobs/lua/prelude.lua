-- Stands before every script. The last argument of each call is a clock offset in ms: 0, but in tests.
local function now_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000) + tonumber(ARGV[#ARGV])
end
-- Is `state` one of the names in the comma-separated list `allowed`?
local function allowed_from(state, allowed)
  return string.find(',' .. allowed .. ',', ',' .. state .. ',', 1, true) ~= nil
end
-- The hash of a lane, from the name of its queue.
local function lane_of(queue)
  return (string.gsub(queue, '^podium:queued:', 'podium:lane:'))
end
-- What a lane has done lately is kept in buckets of 5 s, for a minute.
local BUCKET, BUCKETS = 5000, 12
local function bucket_of(lane, number)
  return lane .. ':drained:' .. number
end
local function note_drained(lane, now, tokens)
  local key = bucket_of(lane, math.floor(now / BUCKET))
  redis.call('INCRBY', key, tokens)
  redis.call('PEXPIRE', key, 2 * BUCKET * BUCKETS)
end
-- Tokens per ms that the lane has ended within the last minute; nil if none.
local function drain_rate(lane, now)
  local newest = math.floor(now / BUCKET)
  local tokens, oldest = 0, nil
  for number = newest - BUCKETS + 1, newest do
    local found = redis.call('GET', bucket_of(lane, number))
    if found then
      tokens = tokens + found
      oldest = oldest or number
    end
  end
  if tokens == 0 then return nil end
  return tokens / math.max(now - oldest * BUCKET, BUCKET)
end
