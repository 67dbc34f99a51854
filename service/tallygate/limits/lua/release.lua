--[[ End a request's holds on all its concurrency limits. Releasing again, or what never held, does nothing.

KEYS  1  the key that remembers the sorted sets that hold the request; they share its hash tag, so its slot
ARGV  1  the request's member in them

Reply: how many holds were ended.
--]]

local held = redis.call('GETDEL', KEYS[1])
local ended = 0
if held then
  for key in string.gmatch(held, '%S+') do ended = ended + redis.call('ZREM', key, ARGV[1]) end
end
return ended
