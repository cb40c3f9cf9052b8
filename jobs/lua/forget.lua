-- Takes jobs whose result has expired out of their owner's list.
-- KEYS  1 zset of ended jobs
-- ARGV  1 prefix of the owners' lists  2 at most
-- returns how many
local gone = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now_ms(), 'LIMIT', 0, ARGV[2])
for _, entry in ipairs(gone) do
  local id, owner = string.match(entry, '^([^:]*):(.*)$')
  redis.call('ZREM', ARGV[1] .. owner, id)
  redis.call('ZREM', KEYS[1], entry)
end
return #gone
