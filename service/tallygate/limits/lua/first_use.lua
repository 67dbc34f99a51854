--[[ When a subscription was first used: now, unless it was before. The instant is kept for good.

KEYS  1  where it is kept, us since 1970
ARGV  1  "use", or "look", which is no use and writes nothing

Reply: the instant in us since 1970, nil for none.
--]]

if ARGV[1] ~= 'use' and ARGV[1] ~= 'look' then error('tallygate: the mode is neither use nor look') end

local known = redis.call('GET', KEYS[1])
if known then return tonumber(string.match(known, '^%d+$')) or error('tallygate: the first use is not readable') end
if ARGV[1] == 'look' then return false end

-- The clock, once. Tests substitute this one line.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
redis.call('SET', KEYS[1], string.format('%.0f', now))
return now
