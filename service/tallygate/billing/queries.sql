-- What bills read: the ledger, row by row, for roll-ups are by the hour and billing periods begin on any minute.

-- name: billed_usage
-- Inputs: subscription id, cuts (ascending whole minutes). Output: units from the first cut to the last by plan version,
-- meter, outcome, and the place of the cut they are after, counted from 1, with the number of rows, and the minute in
-- which the newest of these was recorded; refunds and corrections added in.
-- Each slice is added up by itself: over all of them Postgres would put every row in order first, on disk.
-- A row is recorded when or after what it tells of happened: a day before covers clocks that differ.
SELECT plan, meter, outcome, place, recorded_at, rows, quantity
FROM unnest(($2::timestamptz[])[:cardinality($2) - 1], ($2::timestamptz[])[2:])
    WITH ORDINALITY AS slice (from_at, to_at, place),
    LATERAL (SELECT plan, meter, outcome, max(recorded_at) AS recorded_at, count(*) AS rows,
            sum(quantity)::bigint AS quantity
        FROM usage_entries
        WHERE subscription_id = $1 AND minute_at >= slice.from_at AND minute_at < slice.to_at
            AND recorded_at >= ($2::timestamptz[])[1] - interval '1 day'
        GROUP BY plan, meter, outcome) AS used
ORDER BY plan, meter, outcome, place;

-- name: ledger
-- Output: up to when everything is in the ledger, or null, and the number of its newest row.
SELECT moved_to, last_id FROM usage_ledger;
