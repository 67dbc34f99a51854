-- Reply: the time, as seconds since 1970 and us.

-- The clock, once. Tests substitute this one line.
local time = redis.call('TIME')
return { time[1], time[2] }
