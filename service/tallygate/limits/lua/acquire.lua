--[[ Acquire every limit of one request, or none; or report what has happened and take it from all of them. The
reference is judgement.py, with algorithms.py, credits.py, slots.py and receipt_form.py.

Guarantees: the clock is read once; nothing is written before everything is read and judged; a refused, stale,
repeated or peeking call writes nothing. All keys share the hash tag {customer}, so all are in one slot. Only
commands of Redis 7.0. Numbers are doubles: every number here is whole and below 2^53, or is a sum or product that
is only compared with a smaller number, where rounding cannot change the answer. a - a % b over b is the floor of
a / b, and a + -a % b over b its ceiling, both exact.

This runs for every request of every customer, while nothing else does. A table, a function, an argument, a number
turned to text each cost every call its time: so numbers come packed, live in the one table they arrive in, and
leave packed; rates and quotas stand in line; what is rare is defined where a call needs it.

KEYS  1            prefix of the usage bucket; the script appends ":" and the minute it reads off the clock,
                   which the caller cannot know. The slot is the prefix's own, so a cluster allows it.
      2 .. 1+R     the records that hold the counters: hashes, and for concurrency sorted sets
      2+R          the idempotency key, if the request has one
      3+R          the key that remembers a request's holds, if it has one and a charge is concurrency
      the last     if it leaves a receipt: the receipt, or that and the set of receipts that are given back

ARGV  1            how the rest is packed: "<", a "d" for each number, an "s" for each text
      2            numbers: 0 acquire, 1 peek or 2 report; R, number of records; C, number of charges; U, number of usage
                   entries; how long the idempotency key lives, ms, 0 for none; 1 if any charge is of a rarer kind;
                   where the texts begin, less 1; then
            R times: number of texts of the record, its expiry counted; 0 for a sorted set
            R times: 0, room for until when what is written there means anything
            C times: what stands under KIND to END_AT
            U times: units
            for each charge of credits: when more units come, and how many (0 for never); B, number of buckets;
                   then B times, in the order they are spent: record, text, amount
                   and texts, counted from 1: for each hash "x" and then its fields; for each charge of concurrency the
                   member of its set, empty for a request without an id; then the key of the index of buckets, which
                   shares the slot; then for each usage entry its fields of the bucket, for units within the amount
                   and beyond it
      3 .. 6       only if it leaves a receipt: what that begins with; how long it can be amended, ms; only if it is
                   given back then: its name among those, and how long it waits for that, ms

Reply: "1" admitted or "0" not, "1" repeated or "0" not, the outcome of each charge; then, packed as integers of 8
      bytes, now in us since 1970 and for each charge: remaining units, us until a retry may pass, us until more
      units are there; -1 for never. Of an overage that is taken, units beyond the amount stand for a retry. Or only
      "2" and now, packed: a period does not contain now; compute again.
--]]

local RATE, QUOTA, CREDITS, CONCURRENCY = 1, 2, 3, 4
local OK, EXCEEDED, OVERAGE, SHADOW_EXCEEDED = '0', '1', '2', '3'

-- What is known of a charge. KIND to END_AT are given, the rest is for what is found here, and comes as 0.
local KIND, RECORD, TEXT = 1, 2, 3    -- TEXT: where its field or member is among the texts
local IS_SHADOW, ENTRY = 4, 5         -- 1 or 0; the usage entry of its meter, or 0
local COST, AMOUNT = 6, 7             -- units; an amount of a rate is per window, of credits what the balance holds
local MOST, WINDOW = 8, 9             -- a rate's burst times window (its capacity); the window, us. Or:
local START_AT, END_AT = 9, 10        -- units admitted at MOST; the period, or the time in which this balance holds
local HOLD = 8                        -- concurrency: how long a request counts, us
local TAKES, USED, FULL, SEEN_AT = 11, 12, 13, 14  -- TAKES: units, below 0 for none and not even a beginning
local OVER = 14                       -- quota and credits: units beyond the amount
local HEAD, WIDTH = 7, 14

local DAY_MS, BUCKET_S, LARGEST = 86400000, 604800, 9007199254740991
local NEVER = -1
local call, packed, unpacked = redis.call, struct.pack, struct.unpack

-- The clock, once. Tests substitute this one line.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local now_ms = (now - now % 1000) / 1000

local n = { unpacked(ARGV[1], ARGV[2]) }
local is_peek, is_report, records, charges, usages, remember_ms = n[1] == 1, n[1] == 2, n[2], n[3], n[4], n[5]
local receipt = ARGV[3]
local is_remembering, texts_at = remember_ms > 0, n[7]
local needs_at = HEAD + records
local first_charge = needs_at + records
local units_at = first_charge + charges * WIDTH

-- Whatever a counter holds that was not written here stops the call before anything is written.
local function corrupt(text) error('tallygate: the counter ' .. n[texts_at + text] .. ' is not readable') end

-- Read: the texts' values, in the same order. The size of a record gives way to where its expiry is among them.
local values
local count = 0
for record = 1, records do
  local size = n[HEAD + record]
  if size > 0 then
    local found = call('HMGET', KEYS[1 + record], unpack(n, texts_at + count + 1, texts_at + count + size))
    if found[1] and not string.match(found[1], '^%d+$') then corrupt(count + 1) end
    n[HEAD + record] = count + 1
    if not values then
      values = found
    else
      for i = 1, size do values[count + i] = found[i] end
    end
    count = count + size
  end
end

-- What is written to the hashes, by record: fields and values.
local writes = {}
local function write(record, text, value, until_us)
  local written = writes[record]
  if not written then
    written = {}
    writes[record] = written
  end
  local size = #written
  written[size + 1], written[size + 2] = n[texts_at + text], value
  if until_us > n[needs_at + record] then n[needs_at + record] = until_us end
end

-- The rarer kinds: `read` the counter as of now and return whether the cost fits and how much of it is overage;
-- `take` the cost, in memory; `report` remaining, retry and reset; `write` says what is to be stored.
local rare, held, longest_us  -- held: the sorted sets in which this request holds a slot
if n[6] == 1 then
  local extras_at = units_at + usages

  local function credits()
    local buckets = {}  -- by charge; each has a record, a text, an amount, and the units used

    local function used(text)
      local value = values[text]
      return value and (tonumber(string.match(value, '^%d+$')) or corrupt(text)) or 0
    end

    local function granted(at)
      local left = 0
      for _, bucket in ipairs(buckets[at]) do left = left + math.max(0, bucket.amount - bucket.used) end
      return left
    end

    return {
      read = function(at)
        local gain_at, gain, size = n[extras_at + 1], n[extras_at + 2], n[extras_at + 3]
        buckets[at] = { gain_at = gain_at, gain = gain }
        for i = 1, size do
          local each = extras_at + 3 * i
          buckets[at][i] = {
            record = n[each + 1], text = n[each + 2], amount = n[each + 3], used = used(n[each + 2]), part = 0,
          }
        end
        extras_at = extras_at + 3 + 3 * size
        n[at + USED] = used(n[at + TEXT])
        local cost, left = n[at + COST], granted(at)
        local own = cost - math.min(cost, left)
        return cost <= left + math.max(0, n[at + MOST] - n[at + USED]),
          math.min(own, math.max(0, own - (n[at + AMOUNT] - n[at + USED])))
      end,

      take = function(at)
        local cost = n[at + COST]
        for _, bucket in ipairs(buckets[at]) do
          local part = math.min(cost, math.max(0, bucket.amount - bucket.used))
          bucket.used, bucket.part = bucket.used + part, part
          cost = cost - part
        end
        n[at + USED], n[at + FULL] = math.min(LARGEST, n[at + USED] + cost), cost
      end,

      report = function(at, is_exceeded)
        local left, more = granted(at), buckets[at]
        local gain = more.gain > 0 and more.gain_at - now or NEVER
        local is_enough = n[at + COST] <= left + math.max(0, n[at + MOST] - n[at + USED] + more.gain)
        return math.min(LARGEST, left + math.max(0, n[at + AMOUNT] - n[at + USED])),
          is_exceeded and is_enough and gain or NEVER,
          gain
      end,

      write = function(at)
        for _, bucket in ipairs(buckets[at]) do
          if bucket.part > 0 then write(bucket.record, bucket.text, string.format('%d', bucket.used), math.huge) end
        end
        if n[at + FULL] > 0 then write(n[at + RECORD], n[at + TEXT], string.format('%d', n[at + USED]), math.huge) end
      end,

      parts = function(at)
        local parts = {}
        for i, bucket in ipairs(buckets[at]) do parts[i] = packed('<d', bucket.part) end
        return table.concat(parts)
      end,
    }
  end

  local function concurrency()
    local function text(number) return string.format('%d', number) end
    local function key(at) return KEYS[1 + n[at + RECORD]] end
    local function first(at) return '(' .. text(now - n[at + HOLD]) end
    local function last(at) return '(' .. text(now + n[at + HOLD]) end

    return {
      read = function(at)
        n[at + FULL] = call('ZCOUNT', key(at), first(at), last(at))
        n[at + USED] = n[at + FULL]
        return n[at + COST] == 0 or n[at + USED] < n[at + AMOUNT], 0
      end,

      take = function(at) n[at + USED] = n[at + USED] + 1 end,

      -- Whoever began first is over first; of too many, so many must be over that one slot is free.
      report = function(at, is_exceeded)
        local used = n[at + USED]
        local beyond = math.max(0, used - n[at + AMOUNT])
        local began = call(
          'ZRANGE', key(at), first(at), last(at), 'BYSCORE', 'LIMIT', text(beyond), 1, 'WITHSCORES'
        )
        began = tonumber(began[2])
        if used > n[at + FULL] then began = math.min(began or now, now) end
        local wait = began and began + n[at + HOLD] - now or NEVER
        return math.max(0, n[at + AMOUNT] - used), is_exceeded and wait or NEVER, wait
      end,

      write = function(at)
        local set, member, number = key(at), n[texts_at + n[at + TEXT]], 0
        local has_ended = call('ZCARD', set) > n[at + FULL]
        while member == '' do
          number = number + 1
          local numbered = 't:' .. text(now) .. ':' .. text(number)
          if not call('ZSCORE', set, numbered) then member = numbered end
        end
        call('ZADD', set, text(now), member)
        if has_ended then  -- by time, or by a step back of the clock; now, for an empty set would lose its expiry
          call('ZREMRANGEBYSCORE', set, '-inf', text(now - n[at + HOLD]))
          call('ZREMRANGEBYSCORE', set, text(now + n[at + HOLD]), '+inf')
        end
        local until_ms = math.ceil((now + n[at + HOLD]) / 1000)
        if call('PEXPIRETIME', set) < until_ms + DAY_MS then call('PEXPIREAT', set, text(until_ms + 2 * DAY_MS)) end
        held[#held + 1] = set
        longest_us = math.max(longest_us, n[at + HOLD])
      end,
    }
  end

  rare, held, longest_us = { [CREDITS] = credits(), [CONCURRENCY] = concurrency() }, {}, 0
end

-- Judge every charge by itself, then all together.

local outcomes, is_admitted = '', true
local least = receipt and 0 or 1  -- what may be amended is written from now on, even if nothing is taken of it yet
local overs  -- units beyond an enforced amount, by usage entry
for i = 1, charges do
  local at = first_charge + (i - 1) * WIDTH
  local kind, cost, amount = n[at + KIND], n[at + COST], n[at + AMOUNT]
  local fits, over = true, 0

  if kind == RATE then
    -- `full` was the level at `seen_at`; `level` is what time has left of it. A clock that stepped back counts too.
    local value, window, capacity = values[n[at + TEXT]], n[at + WINDOW], n[at + MOST]
    local full, seen_at = 0, now
    if value then
      if #value ~= 24 then corrupt(n[at + TEXT]) end
      local was
      full, seen_at, was = unpacked('<ddd', value)
      if was ~= window then full = math.ceil(full / was) * window end
      if full > capacity then full = capacity end
    end
    local gone = now - seen_at
    local level = full - amount * (gone < 0 and -gone or gone)
    if level < 0 then level = 0 end
    n[at + USED], n[at + FULL], n[at + SEEN_AT] = level, full, seen_at
    fits = cost * window <= capacity - level

  elseif kind == CONCURRENCY then
    fits, over = rare[kind].read(at)

  else
    -- A period that does not contain now was computed by another clock, or is over: nothing of the call counts.
    if now < n[at + START_AT] or now >= n[at + END_AT] then return packed('<c1i8', '2', now) end
    if kind == CREDITS then
      fits, over = rare[kind].read(at)
    else
      local value, used = values[n[at + TEXT]], 0
      if value then
        if #value ~= 16 then corrupt(n[at + TEXT]) end
        local stored, end_at = unpacked('<dd', value)
        if now < end_at then  -- periods only move forward
          used = stored
          if end_at > n[at + END_AT] then n[at + END_AT] = end_at end
        end
      end
      n[at + USED] = used
      fits = cost == 0 or cost <= n[at + MOST] - used
      over = cost - (amount - used)
      if over < 0 then over = 0 elseif over > cost then over = cost end
    end
    n[at + OVER] = over
  end

  local outcome = OK
  if n[at + IS_SHADOW] == 1 then
    if not fits or over > 0 then outcome = SHADOW_EXCEEDED end
  else
    if not fits then
      outcome, is_admitted = EXCEEDED, is_report
    elseif over > 0 then
      outcome = OVERAGE
    end
    if over > 0 then
      local entry = n[at + ENTRY]
      overs = overs or {}
      if over > (overs[entry] or 0) then overs[entry] = over end
    end
    fits = fits or is_report
  end
  outcomes = outcomes .. outcome
  n[at + TAKES] = fits and cost or -1
end

-- Was this request admitted before? If not it is from here on, unless it is refused or only asks.
local remembered = false
if is_remembering then
  local key = KEYS[2 + records]
  if is_admitted and not is_peek then
    remembered = call('SET', key, outcomes, 'NX', 'GET', 'PXAT', string.format('%d', now_ms + remember_ms))
  else
    remembered = call('GET', key)
  end
  if remembered then
    is_admitted = true
    outcomes = #remembered == charges and remembered or string.rep(OK, charges)
  end
end
local is_taking = is_admitted and not is_peek and not remembered

-- Take, in memory, and say where each limit stands then: after a peek, where it would stand.

local reply = (is_admitted and '1' or '0') .. (remembered and '1' or '0') .. outcomes .. packed('<i8', now)
for i = 1, charges do
  local at = first_charge + (i - 1) * WIDTH
  local kind, cost, amount = n[at + KIND], n[at + COST], n[at + AMOUNT]
  local is_exceeded = not is_admitted and string.sub(outcomes, i, i) == EXCEEDED
  local is_taken = is_admitted and not remembered and n[at + TAKES] >= least
  local remaining, retry, reset = 0, NEVER, NEVER

  if kind == RATE then
    local capacity, window = n[at + MOST], n[at + WINDOW]
    local level, full, seen_at = n[at + USED], n[at + FULL], n[at + SEEN_AT]
    if is_taken then
      level = level + cost * window
      if level > capacity then level = capacity end  -- what a report pours in too much is forgotten
      full, seen_at = level, now
      if is_taking then
        local empty_at = now + (capacity + -capacity % amount) / amount  -- if it were full
        write(n[at + RECORD], n[at + TEXT], packed('<ddd', full, now, window), empty_at)
      end
    end
    local room = capacity - level
    remaining = (room - room % window) / window
    -- The time until the bucket has room for one unit more, or for the cost; it has less now.
    if level > 0 then
      local missing = (remaining + 1) * window - (capacity - full)
      reset = seen_at + (missing + -missing % amount) / amount - now
    end
    if is_exceeded and cost * window <= capacity then
      local missing = cost * window - (capacity - full)
      retry = seen_at + (missing + -missing % amount) / amount - now
    end

  elseif kind == QUOTA then
    local used, end_at = n[at + USED], n[at + END_AT]
    if is_taken then
      used = used + cost
      if used > LARGEST then used = LARGEST end
      if is_taking then write(n[at + RECORD], n[at + TEXT], packed('<dd', used, end_at), end_at) end
    end
    if used < amount then remaining = amount - used end
    if used > 0 then reset = end_at - now end
    if is_exceeded and cost <= n[at + MOST] then retry = end_at - now end

  else
    is_taken = is_taken and cost > 0
    if is_taken then rare[kind].take(at) end
    remaining, retry, reset = rare[kind].report(at, is_exceeded)
    if is_taking and is_taken then rare[kind].write(at) end
  end
  if is_taken and kind ~= RATE and n[at + OVER] > 0 and string.sub(outcomes, i, i) == OVERAGE then retry = n[at + OVER] end
  reply = reply .. packed('<i8i8i8', remaining, retry, reset)
end
if not is_taking then return reply end

-- Write. A record outlives its counters by a day or two; its expiry moves in strides, so that most calls leave it.

for record, written in pairs(writes) do
  local key, expiry, need_ms = KEYS[1 + record], values[n[HEAD + record]], n[needs_at + record]
  if need_ms < math.huge then need_ms = (need_ms + -need_ms % 1000) / 1000 end
  if expiry == '0' or expiry and expiry - need_ms >= DAY_MS then
    call('HSET', key, unpack(written))
  else
    local until_ms = need_ms == math.huge and '0' or string.format('%d', need_ms + 2 * DAY_MS)
    written[#written + 1] = 'x'
    written[#written + 1] = until_ms
    call('HSET', key, unpack(written))
    if until_ms == '0' then call('PERSIST', key) else call('PEXPIREAT', key, until_ms) end
  end
end

local minute = (now - now % 60000000) / 60000000
local bucket = KEYS[1] .. ':' .. minute
local fields_at = #n - 1 - 2 * usages  -- unpacking ends with where it ended
local is_new = false
for i = 1, usages do
  local units, over = n[units_at + i], overs and overs[i] or 0
  if over > units then over = units end
  -- A field is new if nothing was added to; only then the bucket may be.
  if units > over and call('HINCRBY', bucket, n[fields_at + 2 * i - 1], units - over) == units - over then
    is_new = true
  end
  if over > 0 and call('HINCRBY', bucket, n[fields_at + 2 * i], over) == over then is_new = true end
end
if is_new and call('HSETNX', bucket, '#', string.format('%d', now)) == 1 then
  call('EXPIREAT', bucket, minute * 60 + BUCKET_S)
  call('SADD', n[fields_at], string.match(bucket, '{(.-)}') .. ':' .. minute)
end

if held and #held > 0 and is_remembering then
  call('SET', KEYS[3 + records], table.concat(held, ' '), 'PXAT', string.format('%d', now_ms + longest_us / 1000))
end

if receipt then
  local said, over_ms, member = { receipt, '\0', packed('<d', now) }, now_ms + ARGV[4], ARGV[5]
  for i = 1, charges do
    local at = first_charge + (i - 1) * WIDTH
    local kind = n[at + KIND]
    local counted, over, end_at, own = n[at + TAKES] >= 0 and 1 or 0, 0, 0, 0
    if kind == QUOTA then over, end_at = n[at + OVER], n[at + END_AT] end
    if kind == CREDITS then over, own = n[at + OVER], n[at + FULL] end
    if kind ~= CONCURRENCY then said[#said + 1] = packed('<dddd', counted, over, end_at, own) end
    if kind == CREDITS then said[#said + 1] = rare[kind].parts(at) end
  end
  for i = 1, usages do
    said[#said + 1] = packed('<d', math.min(n[units_at + i], overs and overs[i] or 0))
  end
  local until_ms = string.format('%d', over_ms + (ARGV[6] or 0))
  call('SET', KEYS[member and #KEYS - 1 or #KEYS], table.concat(said), 'PXAT', until_ms)
  if member then call('ZADD', KEYS[#KEYS], string.format('%d', over_ms), member) end
end

return reply
