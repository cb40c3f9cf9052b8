-- Keeps the scores of pairs for a while, where Redis has room beyond what jobs may need.
-- KEYS  1.. one for each score
-- ARGV  1 how long, in ms  2 share of maxmemory above which none is kept  3 bytes that one takes, about
--       4.. the scores
-- returns how many are kept: all or none
if not has_room(#KEYS * tonumber(ARGV[3]), ARGV[2]) then return 0 end
for i, key in ipairs(KEYS) do redis.call('SET', key, ARGV[i + 3], 'PX', ARGV[1]) end
return #KEYS
