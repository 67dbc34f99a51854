--[[ Look at usage buckets, and at counters beside them, as of one instant. Writes nothing.

KEYS  1 .. I    indexes of buckets; in a cluster one, for others are in other slots
      1+I ..    records of counters, of the customer that is asked about

ARGV  1         I
      2         what every key begins with
      3         the customer asked about; empty for all of these indexes
      4         how many buckets to return at most
      5 ..      number of a record, from 1, and field, for each counter

Reply: now, us since 1970; 1 if these are all buckets, 0 if there are more; the counters, each as it is stored or nil;
       then for each bucket its name in the index, and fields and values as they alternate.
--]]

local PAGE, MOST_PAGES = '500', 40

local indexes, prefix, customer, most = tonumber(ARGV[1]), ARGV[2], ARGV[3], tonumber(ARGV[4])

local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000000 + time[2])

local counters = {}
for i = 5, #ARGV, 2 do
  counters[#counters + 1] = redis.call('HGET', KEYS[indexes + tonumber(ARGV[i])], ARGV[i + 1])
end

local reply, is_whole, seen, found = { now, 1, counters }, 1, {}, 0

local function take(member)
  local owner, name = string.match(member, '^([^:]*):(.*)$')
  if not owner or seen[member] or (customer ~= '' and owner ~= customer) then return end
  seen[member] = true
  local fields = redis.call('HGETALL', prefix .. '{' .. owner .. '}:u:' .. name)
  if #fields == 0 then return end
  found = found + 1
  reply[#reply + 1] = member
  reply[#reply + 1] = fields
end

for i = 1, indexes do
  local cursor, pages = '0', 0
  repeat
    local page = redis.call('SSCAN', KEYS[i], cursor, 'COUNT', PAGE)
    cursor, pages = page[1], pages + 1
    for _, member in ipairs(page[2]) do
      if found >= most then break end
      take(member)
    end
  until cursor == '0' or found >= most or pages == MOST_PAGES
  if cursor ~= '0' or found >= most then is_whole = 0 end
  if found >= most then break end
end

reply[2] = is_whole
return reply
