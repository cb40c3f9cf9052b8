-- Lists waiting jobs that were announced long before one that was claimed already: their message is lost. Each is
-- noted as announced now, so that two sweepers ring once.
-- KEYS  1 queued zset  2 lane hash
-- ARGV  1 prefix of job keys  2 how long before, in ms  3 how many of the oldest to look at
-- returns a list of ids
local through = tonumber(redis.call('HGET', KEYS[2], 'claimed_through') or 0)
local now, out = now_ms(), {}
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, ARGV[3] - 1)) do
  local at = redis.call('HGET', ARGV[1] .. id, 'announced_at')
  if at and tonumber(at) + tonumber(ARGV[2]) < through then
    redis.call('HSET', ARGV[1] .. id, 'announced_at', now)
    table.insert(out, id)
  end
end
return out
