-- A job as a reader sees it, at one moment.
-- KEYS  1 job  2 result
-- ARGV  1 id
-- returns {} | {hash as a flat list, how many stand before it or nil, result or nil, when it will begin in ms or nil}
local fields = redis.call('HGETALL', KEYS[1])
if #fields == 0 then return {} end
local queue = redis.call('HGET', KEYS[1], 'queued_in')
local position = redis.call('ZRANK', queue, ARGV[1])
local starts = position and starts_at(lane_of(queue), queue, position, now_ms())
return {fields, position, redis.call('GET', KEYS[2]), starts}
