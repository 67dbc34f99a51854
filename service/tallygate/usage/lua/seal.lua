--[[ Seal a usage bucket whose minute is over: from here on nothing is counted in it.

KEYS  1  the bucket, `…:u:<minute>`      2  the index of its slot
ARGV  1  the bucket's name in the index, `<customer>:<minute>`
      2  when its minute is over, us since 1970

Reply: the instant it was opened, us since 1970; `0` when the minute is not over yet; `` when there is no such bucket
and none was listed: another worker sealed it; `-` when it was listed, but is gone.
--]]

-- The clock, once. Tests substitute this one line.
local time = redis.call('TIME')
if time[1] * 1000000 + time[2] < tonumber(ARGV[2]) then return '0' end

if redis.call('EXISTS', KEYS[1]) == 0 then return redis.call('SREM', KEYS[2], ARGV[1]) == 1 and '-' or '' end

-- The instant is the bucket's revision. Two of one instant would be one to the ledger, so the later is told apart.
local opened = tonumber(redis.call('HGET', KEYS[1], '#')) or time[1] * 1000000 + time[2]
local name
repeat
  name = string.format('%.0f', opened)
  opened = opened + 1
until redis.call('RENAMENX', KEYS[1], KEYS[1] .. ':' .. name) == 1  -- the expiry goes with it
redis.call('SREM', KEYS[2], ARGV[1])
redis.call('SADD', KEYS[2], ARGV[1] .. ':' .. name)
return name
