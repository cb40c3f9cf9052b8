-- Stands before every script. The last argument of each call is a clock offset in ms: 0, but in tests.
local function now_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000) + tonumber(ARGV[#ARGV])
end
-- Is `state` one of the names in the comma-separated list `allowed`?
local function allowed_from(state, allowed)
  return string.find(',' .. allowed .. ',', ',' .. state .. ',', 1, true) ~= nil
end
