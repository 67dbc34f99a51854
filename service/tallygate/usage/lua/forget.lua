--[[ Forget a sealed usage bucket that the ledger has.

KEYS  1  the bucket      2  the index of its slot      3  where to keep what could not be read; it does not expire
ARGV  1  the bucket's name in the index
      2  1 to keep the whole bucket
      3 ..  the fields to keep

Reply: how many fields were kept.
--]]

local kept = 0
if ARGV[2] == '1' then
  if redis.call('EXISTS', KEYS[1]) == 1 then
    redis.call('RENAME', KEYS[1], KEYS[3])
    redis.call('PERSIST', KEYS[3])
    kept = redis.call('HLEN', KEYS[3])
  end
else
  for at = 3, #ARGV do
    local value = redis.call('HGET', KEYS[1], ARGV[at])
    if value then
      redis.call('HSET', KEYS[3], ARGV[at], value)
      kept = kept + 1
    end
  end
  redis.call('UNLINK', KEYS[1])  -- freed beside the requests, however large it is
end
redis.call('SREM', KEYS[2], ARGV[1])
return kept
