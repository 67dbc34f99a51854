-- What reading usage asks beside the pages of `reading.statement`.

-- name: moved
-- In:  $1 timestamptz[], $2 text[], $3 bigint[]: minute, customer and opening of buckets that Redis holds.
-- Out: place, from 1, of those that are in the ledger.
SELECT bucket.place
FROM unnest($1::timestamptz[], $2::text[], $3::bigint[]) WITH ORDINALITY
    AS bucket (recorded_at, customer_id, opened, place),
    LATERAL (SELECT FROM usage_entries entry
        WHERE entry.recorded_at = bucket.recorded_at AND entry.customer_id = bucket.customer_id
            AND entry.bucket = bucket.opened LIMIT 1) stored;

-- name: counted
-- What the ledger has of one customer to be compared with counters: all that was counted by Redis's clock until $4.
-- Corrections are of the ledger alone, and what was admitted without counters was charged to none.
-- In:  $1 customer; $2 the minute in which the period began; $3 the first whole minute of it; $4 us since 1970.
-- Out: subscription, family, meter; is_edge, in the minute of the beginning, so maybe before it; units.
SELECT subscription_id, family_id, meter, minute_at < $3 AS is_edge, sum(quantity)::bigint AS quantity
FROM usage_entries
WHERE customer_id = $1 AND minute_at >= $2 AND bucket <= $4 AND entry NOT IN ('correction', 'degraded')
GROUP BY subscription_id, family_id, meter, minute_at < $3;
