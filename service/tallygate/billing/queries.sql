-- What bills read: the ledger, row by row, for roll-ups are by the hour and billing periods begin on any minute.

-- name: billed_usage
-- Inputs: subscription id, first minute, minute after the last, minute the trial ended, minutes shared with other
-- periods. Output: units by plan version, meter, outcome, whether they were used in the trial, and which of the shared
-- minutes they are of, with the number of rows; refunds and corrections added in.
-- A row is recorded when or after what it tells of happened: a day before covers clocks that differ.
SELECT plan, meter, outcome, minute_at < $4 AS is_trial, CASE WHEN minute_at = ANY($5) THEN minute_at END AS shared_at,
    count(*) AS rows, sum(quantity)::bigint AS quantity
FROM usage_entries
WHERE subscription_id = $1 AND minute_at >= $2 AND minute_at < $3 AND recorded_at >= $2 - interval '1 day'
GROUP BY plan, meter, outcome, is_trial, shared_at ORDER BY plan, meter, outcome, is_trial, shared_at;

-- name: ledger
-- Output: up to when everything is in the ledger, or null, and the number of its newest row.
SELECT moved_to, last_id FROM usage_ledger;
