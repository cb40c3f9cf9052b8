-- A job as a reader sees it, at one moment.
-- KEYS  1 job  2 result
-- ARGV  1 id
-- returns {} | {hash as a flat list, how many stand before it or nil, result or nil, when it will begin in ms or nil}
local fields = redis.call('HGETALL', KEYS[1])
if #fields == 0 then return {} end
local job = {}
for i = 1, #fields, 2 do job[fields[i]] = fields[i + 1] end
if job.ended_at then return {fields, false, redis.call('GET', KEYS[2])} end
local position = redis.call('ZRANK', job.queued_in, ARGV[1])
if not position then return {fields} end
local key, now = lane_of(job.queued_in), now_ms()
local lane = redis.call('HMGET', key, 'tokens', 'rate', 'rate_at')
local rate = drain_rate(key, now, {lane[2], lane[3]})
local ahead = (lane[1] or 0) * position / redis.call('ZCARD', job.queued_in)
return {fields, position, false, rate and math.ceil(now + ahead / rate)}
