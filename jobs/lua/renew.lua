-- Prolongs the leases of some jobs and notes their progress.
-- KEYS  1 running zset  2.. jobs
-- ARGV  1 lease in ms  2 the state that holds leases  3 the engine is about to be given them (0 | 1)
--       4.. of each job: its id, its generation, scored so far
-- returns for each: OK | REFUSED (not running) | SUPERSEDED | MISSING
local answers, ends = {}, now_ms() + tonumber(ARGV[1])
for i = 2, #KEYS do
  local id, generation, scored = unpack(ARGV, 3 * i - 2, 3 * i)
  local found = redis.call('HMGET', KEYS[i], 'state', 'generation')
  local answer = 'OK'
  if not found[1] then answer = 'MISSING'
  elseif found[2] ~= generation then answer = 'SUPERSEDED'
  elseif found[1] ~= ARGV[2] then answer = 'REFUSED'
  else
    redis.call('ZADD', KEYS[1], ends, id)
    redis.call('HSET', KEYS[i], 'scored', scored)
    if ARGV[3] == '1' then redis.call('HSET', KEYS[i], 'inside', 1) end
  end
  answers[i - 1] = answer
end
return answers
