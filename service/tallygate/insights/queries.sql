-- What the worker reads, once a minute or so, to tell what all subscriptions come to: pages of subscriptions, and of the
-- ledger what was added up already. No statement is run once for each of them.

-- name: page
-- Inputs: id to start after, rows at most. Output: ids of subscriptions in order, whatever they are.
SELECT id FROM subscriptions WHERE id > $1 ORDER BY id LIMIT $2;

-- name: contracts
-- Inputs: ids, now. Output: of these, those of the live environment that have not ended, or so lately that their billing
-- period may still run, with their customer's status; terms of those that have not.
SELECT s.*, c.status AS customer_status, CASE WHEN s.ends_at IS NULL OR s.ends_at > $2 THEN l.terms END AS terms
FROM subscriptions s
JOIN customers c ON c.id = s.customer_id LEFT JOIN licenses l ON l.subscription_id = s.id
WHERE s.id = ANY ($1::text[]) AND s.environment = 'live'
    AND (s.ends_at IS NULL OR s.ends_at > $2::timestamptz - interval '1 year 1 day');

-- name: plan_changes
-- Inputs: ids of subscriptions. Output: their changes that were not taken back.
SELECT id, subscription_id, at, plan_key, plan_version, carry FROM subscription_changes
WHERE subscription_id = ANY ($1::text[]) AND canceled_at IS NULL;

-- name: versions
-- Inputs: names of plan versions. Output: those that there are.
SELECT plan_key || '@' || version AS ref, document FROM plan_versions
WHERE plan_key || '@' || version = ANY ($1::text[]);

-- name: used
-- Inputs, as many of each: place, grain (of spans.Grain), customer, subscription or null for all of the customer's, begin
-- and end, at boundaries of the grain. Output: units by place, plan version, meter and outcome. A row of the ledger is
-- recorded when or after what it tells of happened: a day before covers clocks that differ, as bills have it.
SELECT span.place, used.*
FROM unnest($1::int[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::timestamptz[])
    AS span (place, grain, customer_id, subscription_id, from_at, to_at),
    LATERAL (
        SELECT r.plan, r.meter, r.outcome, sum(r.quantity)::bigint AS quantity
        FROM (
            SELECT m.* FROM usage_months m
            WHERE span.grain = 'month' AND m.customer_id = span.customer_id
                AND m.from_at >= span.from_at AND m.from_at < span.to_at
            UNION ALL
            SELECT d.* FROM usage_days d
            WHERE span.grain = 'day' AND d.customer_id = span.customer_id
                AND d.from_at >= span.from_at AND d.from_at < span.to_at
            UNION ALL
            SELECT h.* FROM usage_hours h
            WHERE span.grain = 'hour' AND h.customer_id = span.customer_id
                AND h.from_at >= span.from_at AND h.from_at < span.to_at
            UNION ALL
            SELECT e.customer_id, e.subscription_id, e.family_id, e.plan, e.meter, e.route, e.outcome, e.minute_at,
                e.quantity
            FROM usage_entries e
            WHERE span.grain = 'minute' AND e.customer_id = span.customer_id
                AND e.minute_at >= span.from_at AND e.minute_at < span.to_at
                AND e.recorded_at >= span.from_at - interval '1 day'
        ) r
        WHERE span.subscription_id IS NULL OR r.subscription_id = span.subscription_id
        GROUP BY r.plan, r.meter, r.outcome) used;
