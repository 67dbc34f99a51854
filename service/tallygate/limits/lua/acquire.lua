--[[ Acquire every limit of one request, or none. The reference is judgement.py with algorithms.py, credits.py, slots.py.

Guarantees: the clock is read once; nothing is written before everything is validated and judged; a refused,
stale, repeated or peeking call writes nothing. All keys share the hash tag {customer}, so all are in one slot.
Only commands of Redis 7.0. Numbers are doubles: every number here is whole and below 2^53, or is a sum or
product that is only compared with a smaller number, where rounding cannot change the answer. A quotient of two
such numbers never rounds onto a whole number that it is not, so floor and ceil of it are exact.

KEYS  1            prefix of the usage bucket; the script appends ":" and the minute it reads off the clock,
                   which the caller cannot know. The slot is the prefix's own, so a cluster allows it.
      2 .. 1+R     the records that hold the counters: hashes, and for concurrency sorted sets
      2+R          the idempotency key, if ARGV 5 > 0
      3+R          the key that remembers a request's holds, if ARGV 5 > 0 and a charge is concurrency

ARGV  1            "acquire" or "peek"
      2            R, number of records
      3            C, number of charges
      4            U, number of usage entries
      5            how long the idempotency key lives, ms; 0 for none
      then C times:
        record     1 .. R
        field      of the hash; the member of the sorted set, empty for a request without an id
        kind       "rate", "quota", "credits" or "concurrency"
        shadow     1 or 0
        usage      1 .. U, the usage entry of the limit's meter, or 0
        cost       units
        amount     units: a rate's per window, a quota's, what a balance holds, requests at once
        of a rate: burst units, window us
        of a quota: units admitted at most, start and end of the period, us since 1970
        of credits: units admitted at most, start and end of the time in which all this holds, us since 1970;
                   when more units come (0 for never) and how many; B, number of buckets, then B times, in the
                   order they are spent: record, field, amount
        of concurrency: how long a request holds, us
      then U times 2:
        field      of the bucket, before "|allowed" or "|overage"
        units

Reply, whole numbers only: status (0 refused, 1 admitted, 2 stale: a period does not contain now; compute
      again from the now given), now in us since 1970, repeat (1 or 0), then for each charge: outcome (0 ok,
      1 exceeded, 2 overage, 3 shadow exceeded), remaining units, us until a retry may pass, us until more
      units are there; -1 for never. A stale reply ends after now.
--]]

local REFUSED, ADMITTED, STALE = 0, 1, 2
local OK, EXCEEDED, OVERAGE, SHADOW_EXCEEDED = 0, 1, 2, 3
local EXACT = 9007199254740992
local DAY_MS, BUCKET_S = 86400000, 604800
local NEVER = -1

-- tostring() would write 1.79e+15.
local function text(number) return string.format('%.0f', number) end

-- The clock, once. Tests substitute this one line.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local now_ms = math.floor(now / 1000)

local position = 0
local function next_text()
  position = position + 1
  return ARGV[position] or error('tallygate: wrong number of arguments')
end
local function next_number(name)
  position = position + 1
  local number = tonumber(ARGV[position])
  if not number or number < 0 or number >= EXACT or number % 1 ~= 0 then
    error('tallygate: ' .. name .. ' is not a whole number below 2^53')
  end
  return number
end

-- A period that does not contain now was computed by another clock, or is over: nothing of the call counts.
local is_stale = false
local function next_period()
  local start_at, end_at = next_number('start'), next_number('end')
  if now < start_at or now >= end_at then is_stale = true end
  return end_at
end

-- What is read from the hashes, by record: the fields, the expiry first, and then their texts.
local fields, stored = {}, {}

-- Ask for a field of a hash; its text will be at the place returned.
local function want(record, field)
  local wanted = fields[record] or error('tallygate: no such record')
  wanted[#wanted + 1] = field
  return #wanted
end

local function corrupt(field) error('tallygate: the counter ' .. field .. ' is not readable') end

-- What is written to the hashes, by record: fields and texts, and until when any of them means anything, in ms.
local writes, needed = {}, {}

local function write(record, field, value, until_ms)
  local written = writes[record] or {}
  written[#written + 1] = field
  written[#written + 1] = value
  writes[record] = written
  needed[record] = math.max(needed[record] or 0, until_ms)
end

-- Each kind of limit: `terms` takes its arguments; `read` its counter, as of now, and returns whether the cost
-- fits and how much of it is overage; `take` counts the cost, in memory; `report` returns remaining, retry and
-- reset; `write` says what is to be stored.

local rate = {
  terms = function(charge)
    local burst = next_number('burst')
    charge.window = next_number('window')
    charge.capacity = burst * charge.window
    if charge.amount < 1 or charge.window < 1 or charge.capacity >= EXACT then
      error('tallygate: a rate that cannot be counted exactly')
    end
    charge.place = want(charge.record, charge.field)
  end,

  -- `full` was the level at `at`; `level` is what time has left of it. A clock that stepped back counts as time too.
  read = function(charge)
    local value = stored[charge.record][charge.place]
    local full, at = 0, now
    if value then
      local level, seen, window = string.match(value, '^(%d+):(%d+):(%d+)$')
      if not level then corrupt(charge.field) end
      full, at, window = tonumber(level), tonumber(seen), tonumber(window)
      if window ~= charge.window then full = math.ceil(full / window) * charge.window end
      full = math.min(full, charge.capacity)
    end
    charge.full, charge.at = full, at
    charge.level = math.max(0, full - charge.amount * math.abs(now - at))
    return charge.cost * charge.window <= charge.capacity - charge.level, 0
  end,

  take = function(charge)
    charge.level = charge.level + charge.cost * charge.window
    charge.full, charge.at = charge.level, now
  end,

  report = function(charge)
    -- The time until the bucket has this much room; it has less now.
    local function wait(room)
      return charge.at + math.ceil((room - (charge.capacity - charge.full)) / charge.amount) - now
    end
    local remaining = math.floor((charge.capacity - charge.level) / charge.window)
    local may_pass = charge.outcome == EXCEEDED and charge.cost * charge.window <= charge.capacity
    return remaining,
      may_pass and wait(charge.cost * charge.window) or NEVER,
      charge.level > 0 and wait((remaining + 1) * charge.window) or NEVER
  end,

  write = function(charge)
    local value = string.format('%.0f:%.0f:%.0f', charge.full, charge.at, charge.window)
    write(charge.record, charge.field, value, now_ms + math.ceil(math.ceil(charge.capacity / charge.amount) / 1000))
  end,
}

local quota = {
  terms = function(charge)
    charge.up_to, charge.end_at = next_number('up_to'), next_period()
    charge.place = want(charge.record, charge.field)
  end,

  read = function(charge)
    local value = stored[charge.record][charge.place]
    charge.used = 0
    if value then
      local used, end_at = string.match(value, '^(%d+):(%d+)$')
      if not used then corrupt(charge.field) end
      end_at = tonumber(end_at)
      if now < end_at then  -- periods only move forward
        charge.used, charge.end_at = tonumber(used), math.max(end_at, charge.end_at)
      end
    end
    return charge.cost == 0 or charge.cost <= charge.up_to - charge.used,
      math.min(charge.cost, math.max(0, charge.used + charge.cost - charge.amount))
  end,

  take = function(charge) charge.used = charge.used + charge.cost end,

  report = function(charge)
    local may_pass = charge.outcome == EXCEEDED and charge.cost <= charge.up_to
    return math.max(0, charge.amount - charge.used),
      may_pass and charge.end_at - now or NEVER,
      charge.used > 0 and charge.end_at - now or NEVER
  end,

  write = function(charge)
    local value = string.format('%.0f:%.0f', charge.used, charge.end_at)
    write(charge.record, charge.field, value, math.ceil(charge.end_at / 1000))
  end,
}

-- Rarer kinds are defined when a charge is of them: to define functions costs every call its time.
local rare = {}

function rare.credits()
  -- What is left of the buckets of a charge.
  local function granted(charge)
    local left = 0
    for _, bucket in ipairs(charge.buckets) do left = left + math.max(0, bucket.amount - bucket.used) end
    return left
  end

  return {
    -- The balance and its buckets are alike: each has a record, a field, an amount, and units used.
    terms = function(charge)
      charge.up_to, charge.end_at = next_number('up_to'), next_period()
      charge.gain_at, charge.gain = next_number('gain at'), next_number('gain')
      charge.place = want(charge.record, charge.field)
      charge.buckets = {}
      for i = 1, next_number('buckets') do
        local bucket = { record = next_number('record'), field = next_text(), amount = next_number('amount') }
        bucket.place = want(bucket.record, bucket.field)
        charge.buckets[i] = bucket
      end
    end,

    read = function(charge)
      local function used(account)
        local value = stored[account.record][account.place]
        return value and (tonumber(string.match(value, '^%d+$')) or corrupt(account.field)) or 0
      end
      charge.used = used(charge)
      for _, bucket in ipairs(charge.buckets) do bucket.used = used(bucket) end
      local left = granted(charge)
      local own = charge.cost - math.min(charge.cost, left)
      return charge.cost <= left + math.max(0, charge.up_to - charge.used),
        math.min(own, math.max(0, charge.used + own - charge.amount))
    end,

    take = function(charge)
      local cost = charge.cost
      for _, bucket in ipairs(charge.buckets) do
        bucket.part = math.min(cost, math.max(0, bucket.amount - bucket.used))
        bucket.used = bucket.used + bucket.part
        cost = cost - bucket.part
      end
      charge.part = cost
      charge.used = charge.used + cost
    end,

    report = function(charge)
      local left = granted(charge)
      local gain = charge.gain > 0 and charge.gain_at - now or NEVER
      local is_enough = charge.cost <= left + math.max(0, charge.up_to - charge.used + charge.gain)
      return math.min(EXACT - 1, left + math.max(0, charge.amount - charge.used)),
        charge.outcome == EXCEEDED and is_enough and gain or NEVER,
        gain
    end,

    write = function(charge)
      local function spent(account)
        if account.part > 0 then write(account.record, account.field, text(account.used), math.huge) end
      end
      for _, bucket in ipairs(charge.buckets) do spent(bucket) end
      spent(charge)
    end,
  }
end

local held, longest_ms = {}, 0  -- the sorted sets in which this request holds a slot

function rare.concurrency()
  return {
    terms = function(charge)
      charge.hold = next_number('hold')
      charge.key = fields[charge.record] and KEYS[1 + charge.record] or error('tallygate: no such record')
      charge.first, charge.last = '(' .. text(now - charge.hold), '(' .. text(now + charge.hold)
    end,

    read = function(charge)
      charge.live = redis.call('ZCOUNT', charge.key, charge.first, charge.last)
      charge.used = charge.live
      return charge.cost == 0 or charge.used < charge.amount, 0
    end,

    take = function(charge) charge.used = charge.used + 1 end,

    -- Whoever began first is over first; of too many, so many must be over that one slot is free.
    report = function(charge)
      local beyond = math.max(0, charge.used - charge.amount)
      local began = redis.call(
        'ZRANGE', charge.key, charge.first, charge.last, 'BYSCORE', 'LIMIT', text(beyond), 1, 'WITHSCORES'
      )
      began = tonumber(began[2])
      if charge.used > charge.live then began = math.min(began or now, now) end
      local wait = began and began + charge.hold - now or NEVER
      return math.max(0, charge.amount - charge.used), charge.outcome == EXCEEDED and wait or NEVER, wait
    end,

    write = function(charge)
      local key, member, number = charge.key, charge.field, 0
      local has_ended = redis.call('ZCARD', key) > charge.live
      while member == '' do
        number = number + 1
        local numbered = 't:' .. text(now) .. ':' .. text(number)
        if not redis.call('ZSCORE', key, numbered) then member = numbered end
      end
      redis.call('ZADD', key, text(now), member)
      if has_ended then  -- by time, or by a step back of the clock; now, for an empty set would lose its expiry
        redis.call('ZREMRANGEBYSCORE', key, '-inf', text(now - charge.hold))
        redis.call('ZREMRANGEBYSCORE', key, text(now + charge.hold), '+inf')
      end
      local until_ms = math.ceil((now + charge.hold) / 1000)
      if redis.call('PEXPIRETIME', key) < until_ms + DAY_MS then
        redis.call('PEXPIREAT', key, text(until_ms + 2 * DAY_MS))
      end
      held[#held + 1] = key
      longest_ms = math.max(longest_ms, charge.hold / 1000)
    end,
  }
end

local kinds = { rate = rate, quota = quota }
local function kind_of(name)
  if not kinds[name] and rare[name] then kinds[name] = rare[name]() end
  return kinds[name] or error('tallygate: no such kind')
end

-- Arguments.

local mode = next_text()
if mode ~= 'acquire' and mode ~= 'peek' then error('tallygate: the mode is neither acquire nor peek') end
local record_count, charge_count = next_number('records'), next_number('charges')
local usage_count, remember_ms = next_number('usage entries'), next_number('idempotency time')

local charges, usage = {}, {}
local key_count = 1 + record_count + (remember_ms > 0 and 1 or 0)
for record = 1, record_count do fields[record] = { 'x' } end
for i = 1, charge_count do
  local charge = {
    record = next_number('record'), field = next_text(), kind = kind_of(next_text()),
    is_shadow = next_number('shadow') == 1, usage = next_number('usage'), cost = next_number('cost'),
    amount = next_number('amount'), outcome = OK, is_taken = false,
  }
  if charge.usage > usage_count then error('tallygate: no such usage entry') end
  if charge.kind == kinds.concurrency and remember_ms > 0 then key_count = record_count + 3 end
  charge.kind.terms(charge)
  charges[i] = charge
end
for i = 1, usage_count do usage[i] = { field = next_text(), units = next_number('units'), over = 0 } end
if #KEYS ~= key_count then error('tallygate: wrong number of keys') end
if #ARGV ~= position then error('tallygate: wrong number of arguments') end

if is_stale then return { STALE, now } end

-- Read.

local remembered = false
if remember_ms > 0 then remembered = redis.call('GET', KEYS[2 + record_count]) end
local is_repeat = remembered ~= false

for record = 1, record_count do
  if #fields[record] > 1 then
    stored[record] = redis.call('HMGET', KEYS[1 + record], unpack(fields[record]))
    if stored[record][1] and not string.match(stored[record][1], '^%d+$') then corrupt('x') end
  end
end

-- Judge every charge by itself, then all together.

local is_admitted = true
for i, charge in ipairs(charges) do
  if is_repeat then charge.cost = 0 end
  local fits, over = charge.kind.read(charge)
  charge.is_taken = fits and charge.cost > 0

  if charge.is_shadow then
    charge.outcome = (fits and over == 0) and OK or SHADOW_EXCEEDED
  elseif not fits then
    charge.outcome, is_admitted = EXCEEDED, false
  else
    charge.outcome = over > 0 and OVERAGE or OK
    local entry = usage[charge.usage]
    if entry then entry.over = math.max(entry.over, over) end
  end
  if is_repeat and #remembered == charge_count then charge.outcome = tonumber(string.sub(remembered, i, i)) end
end

-- Take, in memory.

local outcomes, reply = {}, { is_admitted and ADMITTED or REFUSED, now, is_repeat and 1 or 0 }
for i, charge in ipairs(charges) do
  if is_admitted and charge.is_taken then charge.kind.take(charge) end
  local at = #reply
  outcomes[i], reply[at + 1] = charge.outcome, charge.outcome
  reply[at + 2], reply[at + 3], reply[at + 4] = charge.kind.report(charge)
end

if mode == 'peek' or not is_admitted or is_repeat then return reply end

-- Write.

for _, charge in ipairs(charges) do
  if charge.is_taken then charge.kind.write(charge) end
end

for record, written in pairs(writes) do
  local key, expiry, need = KEYS[1 + record], stored[record][1], needed[record]
  if expiry == '0' or (expiry and tonumber(expiry) >= need + DAY_MS) then
    redis.call('HSET', key, unpack(written))
  else
    local until_ms = need == math.huge and '0' or text(need + 2 * DAY_MS)
    written[#written + 1] = 'x'
    written[#written + 1] = until_ms
    redis.call('HSET', key, unpack(written))
    if until_ms == '0' then redis.call('PERSIST', key) else redis.call('PEXPIREAT', key, until_ms) end
  end
end

local minute = math.floor(now / 60000000)
local bucket = KEYS[1] .. ':' .. minute
local function count(field, units)
  -- The field is new if nothing was added to; only then the bucket may be.
  if units > 0 and redis.call('HINCRBY', bucket, field, text(units)) == units then
    redis.call('EXPIREAT', bucket, text(minute * 60 + BUCKET_S))
  end
end
for _, entry in ipairs(usage) do
  local over = math.min(entry.units, entry.over)
  count(entry.field .. '|allowed', entry.units - over)
  count(entry.field .. '|overage', over)
end

if remember_ms > 0 then
  redis.call('SET', KEYS[2 + record_count], table.concat(outcomes), 'PXAT', text(now_ms + remember_ms))
  if #held > 0 then
    redis.call('SET', KEYS[3 + record_count], table.concat(held, ' '), 'PXAT', text(now_ms + longest_ms))
  end
end

return reply
