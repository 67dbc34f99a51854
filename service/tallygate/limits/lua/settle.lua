--[[ Settle a slab, once: what was not spent goes back, what was is usage. The reference is leases.py.

KEYS  1     the key that remembers the slab, as that of a request; it shares the hash tag of all that follow
      2     the usage bucket of the minute in which the slab was spent; it ends with that minute
      3 ..  the record of each counter that gets units back

ARGV  1     how long it is remembered that the slab is settled, ms
      2     C, the number of counters; then C times: field, "quota" or "credits", units, and for a quota when the
            period ends in which they were taken, us since 1970
      3+4C..  field of the bucket and units, for each entry of usage

Reply: 1, or 0 when it was settled before and nothing is done. A slab that is not known gives nothing back.
--]]

local BUCKET_S, SETTLED = 604800, ''

local known = redis.call('GET', KEYS[1])
if known == SETTLED then return 0 end

-- The clock, once. Tests substitute this one line.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local function corrupt(field) error('tallygate: the counter ' .. field .. ' is not readable') end

-- A quota's counter without the units, nil where its period is another one by now.
local function quota_without(value, field, units, end_at)
  if #value ~= 16 then corrupt(field) end
  local used, stored_end_at = struct.unpack('<dd', value)
  if now >= end_at or end_at > stored_end_at then return nil end
  return struct.pack('<dd', math.max(0, used - units), stored_end_at)
end

local function credits_without(value, field, units)
  local used = tonumber(string.match(value, '^%d+$')) or corrupt(field)
  return string.format('%d', math.max(0, used - units))
end

-- Read everything, then write.
local counters = tonumber(ARGV[2])
local usage_at = 2 + 4 * counters
local writes = {}
for i = 1, known and counters or 0 do
  local at = 2 + 4 * (i - 1)
  local field, units = ARGV[at + 1], tonumber(ARGV[at + 3])
  local value = redis.call('HGET', KEYS[2 + i], field)
  if value and ARGV[at + 2] == 'quota' then
    value = quota_without(value, field, units, tonumber(ARGV[at + 4]))
  elseif value then
    value = credits_without(value, field, units)
  end
  if value then writes[#writes + 1] = { KEYS[2 + i], field, value } end
end

for _, write in ipairs(writes) do redis.call('HSET', unpack(write)) end
for at = usage_at + 1, #ARGV, 2 do redis.call('HINCRBY', KEYS[2], ARGV[at], ARGV[at + 1]) end
if usage_at < #ARGV then
  local minute = tonumber(string.match(KEYS[2], '%d+$'))
  redis.call('EXPIREAT', KEYS[2], minute * 60 + BUCKET_S)
end
local until_ms = (now - now % 1000) / 1000 + tonumber(ARGV[1])
redis.call('SET', KEYS[1], SETTLED, 'PXAT', string.format('%d', until_ms))
return 1
