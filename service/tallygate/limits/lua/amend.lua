--[[ Amend what was charged, once: give back or take more, and count the difference as usage. The reference is
amending.py. All keys share a slot; numbers are whole and below 2^53, or are only compared with smaller ones.

KEYS  1           what it is done under, once: a receipt, or what is remembered of a slab; empty when it was done
      2           prefix of the usage bucket; the script appends ":" and the minute it reads off the clock
      3           the index of buckets
      4           the set of receipts that are given back
      5 ..        records of counters

ARGV  1           how the rest is packed: "<", a "d" for each number, an "s" for each text
      2           numbers: 1 for the end of a slab, 2 for one told late; from when it is too late, us, 0 for never; how long it is known at
                  least that it was done, ms; the minute the usage belongs to; C, number of changes; U, number of meters;
                  where the texts begin, less 1; then
            C times: kind, record, text, the meter of its overage or 0, units, amount, units of overage where the counter
                  cannot say, end of the period, most, window, when it was charged, units of the balance itself, G; then
                  G times: record, text, amount, end, units that go back
            U times: units within the amount, and beyond it
                  and texts, counted from 1: fields; then the receipt's name in the set, empty for none; the route; then
                  for each meter its fields of the bucket up to the minute, for units within the amount and beyond it

Reply: 1, 0 when it was done before, or -1 when it is not known or too late. Both write nothing, but that the end of
      a slab has been told.
--]]

local RATE, QUOTA = 1, 2
local HEAD, BUCKET_S, LARGEST = 7, 604800, 9007199254740991
local call = redis.call

-- The clock, once. Tests substitute this one line.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local n = { struct.unpack(ARGV[1], ARGV[2]) }
local is_slab, until_us, known_ms, at_minute, changes, meters, texts_at = unpack(n, 1, HEAD)

local known = call('GET', KEYS[1])
if known == '' then return 0 end
if not known and is_slab == 0 then return -1 end
if until_us > 0 and now >= until_us then return -1 end

local function settled()
  local now_ms, until_ms = (now - now % 1000) / 1000, (until_us - until_us % 1000) / 1000
  call('SET', KEYS[1], '', 'PXAT', string.format('%d', math.max(until_ms, now_ms + known_ms)))
end

-- A slab that is not known was never granted, was settled long ago, or is lost: told late, one cannot say which.
if not known and is_slab == 2 then
  settled()
  return -1
end

local function corrupt(field) error('tallygate: the counter ' .. field .. ' is not readable') end
local function within(units, least, most) return math.min(most, math.max(least, units)) end

-- A counter: its key, field and value. Where one is found twice, it is the same place.
local function counter(at)
  local key, field = KEYS[4 + n[at]], n[texts_at + n[at + 1]]
  return key, field, call('HGET', key, field)
end

local writes = {}
local function write(...) writes[#writes + 1] = { ... } end

local function used_of(value, field)
  return value and (tonumber(string.match(value, '^%d+$')) or corrupt(field)) or 0
end

-- Each returns how many of the units that are taken are overage.

local function rate(at, units, amount)
  local key, field, value = counter(at + 1)
  local most, window, was = n[at + 8], n[at + 9], n[at + 10]
  if not value then return 0 end
  if #value ~= 24 then corrupt(field) end
  local level, seen_at, told_in = struct.unpack('<ddd', value)
  if told_in ~= window then return 0 end
  if units < 0 then  -- what was poured in then has drained since, as far as anything can have
    local back = math.max(0, -units * window - amount * math.abs(now - was))
    write(key, field, struct.pack('<ddd', math.max(0, level - back), seen_at, window))
  else
    level = math.max(0, level - amount * math.abs(now - seen_at))
    local full = math.max(level, math.min(level + units * window, most * window))
    write(key, field, struct.pack('<ddd', full, now, window))
  end
  return 0
end

local function quota(at, units, amount)
  local key, field, value = counter(at + 1)
  local over, end_at = n[at + 6], n[at + 7]
  if not value then return over end
  if #value ~= 16 then corrupt(field) end
  local used, stored_end_at = struct.unpack('<dd', value)
  if now >= end_at or end_at > stored_end_at then return over end  -- another period by now
  write(key, field, struct.pack('<dd', within(used + units, 0, LARGEST), stored_end_at))
  return within(units - (amount - used), 0, math.max(0, units))
end

local function credits(at, units, amount)
  local grants = n[at + 12]

  local function give_back(place, part)
    local key, field, value = counter(place)
    if part > 0 and value then write(key, field, string.format('%d', math.max(0, used_of(value, field) - part))) end
  end

  local function spend(place, part)
    if part == 0 then return end
    local key, field, value = counter(place)
    -- What was spent is known for ever, also where nothing was counted before.
    write(key, field, string.format('%d', math.min(LARGEST, used_of(value, field) + part)), 'x', '0')
  end

  if units < 0 then
    give_back(at + 1, n[at + 11])
    for i = 1, grants do give_back(at + 8 + 5 * i, n[at + 12 + 5 * i]) end
    return 0
  end
  local rest = units
  for i = 1, grants do
    local place = at + 8 + 5 * i
    local _, field, value = counter(place)
    local part = now < n[place + 3] and within(n[place + 2] - used_of(value, field), 0, rest) or 0
    spend(place, part)
    rest = rest - part
  end
  local _, field, value = counter(at + 1)
  local used = used_of(value, field)
  spend(at + 1, rest)
  return within(rest - (amount - used), 0, rest)
end

-- Read everything, then write. A slab that is not known gives nothing back.

local overs = {}
local at = HEAD + 1
for _ = 1, changes do
  local kind, meter, units, amount, over = n[at], n[at + 3], n[at + 4], n[at + 5], 0
  if not known then
    over = 0
  elseif kind == RATE then
    over = rate(at, units, amount)
  elseif kind == QUOTA then
    over = quota(at, units, amount)
  else
    over = credits(at, units, amount)
  end
  if meter > 0 then overs[meter] = math.max(overs[meter] or 0, over) end
  at = at + 13 + 5 * n[at + 12]
end

for _, written in ipairs(writes) do
  call('HSET', unpack(written))
  if written[4] then call('PERSIST', written[1]) end
end

local minute = (now - now % 60000000) / 60000000
local bucket = KEYS[2] .. ':' .. minute
local heads_at = #n - 1 - 2 * meters  -- unpacking ends with where it ended
local member, route = n[heads_at - 1], n[heads_at]
local tail = (minute == at_minute and '' or string.format('%d', at_minute)) .. '|' .. route
local is_new = false
for i = 1, meters do
  local allowed, overage = n[at], n[at + 1]
  local beyond = math.min(overs[i] or 0, math.max(0, allowed))
  at = at + 2
  for outcome, units in ipairs({ allowed - beyond, overage + beyond }) do
    local field = n[heads_at + 2 * i - 2 + outcome] .. tail
    if units ~= 0 and call('HINCRBY', bucket, field, units) == units then is_new = true end
  end
end
if is_new and call('HSETNX', bucket, '#', string.format('%d', now)) == 1 then
  call('EXPIREAT', bucket, minute * 60 + BUCKET_S)
  call('SADD', KEYS[3], string.match(bucket, '{(.-)}') .. ':' .. minute)
end

settled()
if member ~= '' then call('ZREM', KEYS[4], member) end
return 1
