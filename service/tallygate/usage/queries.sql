-- name: lock_ledger
-- One writer at a time from here to the commit, so that numbers are given in the order of commits. A commit is on disk
-- before it is believed, whatever the database is used to.
SELECT CASE current_setting('synchronous_commit') WHEN 'off' THEN set_config('synchronous_commit', 'on', true) END
FROM usage_ledger FOR UPDATE;

-- name: make_partitions
-- In: $1 instants. Makes the partitions that rows of these months and years go to.
SELECT make_usage_partitions_v1($1::timestamptz[]);

-- name: unsent
-- In: $1 instant. Out: name, oldest_at of each export that has not sent, or not written, all that was recorded before
-- then. What it has put aside counts as sent. Only partitions that are to be dropped are looked into. Whether there is
-- anything is asked in the order of numbers first: by time, one that has sent all would have them read to their ends.
SELECT name, oldest_at FROM (
    SELECT name, least(
        CASE WHEN (SELECT id FROM usage_entries WHERE id > coalesce(last_id, 0) AND recorded_at < $1
            ORDER BY id LIMIT 1) IS NOT NULL
        THEN (SELECT min(recorded_at) FROM usage_entries WHERE id > coalesce(last_id, 0) AND recorded_at < $1) END,
        (SELECT min(day) FROM export_files WHERE export = name AND written_at IS NULL)::timestamp AT TIME ZONE 'UTC'
    ) AS oldest_at FROM exports
) AS export WHERE oldest_at < $1;

-- name: drop_partitions
-- In: $1 entries, $2 hours recorded before then; null keeps them. Out: name of each partition dropped.
SELECT drop_usage_partitions_v1($1, $2) AS name;

-- name: store_entries
-- Stores entries that are not there yet, and adds those, and only those, to the roll-ups. The ledger is locked.
-- In: $1 … $12 columns of as many entries; $13 the reason of all. Out: stored, how many were new.
WITH new AS (
    INSERT INTO usage_entries (recorded_at, bucket, customer_id, subscription_id, family_id, plan, meter, route,
        outcome, entry, minute_at, quantity, reason)
    SELECT given.*, $13 FROM unnest($1::timestamptz[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[],
        $7::text[], $8::text[], $9::text[], $10::text[], $11::timestamptz[], $12::bigint[]) AS given
    ON CONFLICT DO NOTHING
    RETURNING id, customer_id, subscription_id, family_id, plan, meter, route, outcome, minute_at, quantity
), hours AS (
    INSERT INTO usage_hours AS known
    SELECT customer_id, subscription_id, family_id, plan, meter, route, outcome, date_trunc('hour', minute_at, 'UTC'),
        sum(quantity) FROM new GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
    ON CONFLICT (customer_id, from_at, subscription_id, family_id, plan, meter, route, outcome)
    DO UPDATE SET quantity = known.quantity + excluded.quantity
), days AS (
    INSERT INTO usage_days AS known
    SELECT customer_id, subscription_id, family_id, plan, meter, route, outcome, date_trunc('day', minute_at, 'UTC'),
        sum(quantity) FROM new GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
    ON CONFLICT (customer_id, from_at, subscription_id, family_id, plan, meter, route, outcome)
    DO UPDATE SET quantity = known.quantity + excluded.quantity
), months AS (
    INSERT INTO usage_months AS known
    SELECT customer_id, subscription_id, family_id, plan, meter, route, outcome, date_trunc('month', minute_at, 'UTC'),
        sum(quantity) FROM new GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
    ON CONFLICT (customer_id, from_at, subscription_id, family_id, plan, meter, route, outcome)
    DO UPDATE SET quantity = known.quantity + excluded.quantity
), totals AS (
    INSERT INTO usage_totals AS known
    SELECT date_trunc('day', minute_at, 'UTC'), plan, meter, route, outcome, sum(quantity)
    FROM new GROUP BY 1, 2, 3, 4, 5
    ON CONFLICT (from_at, plan, meter, route, outcome) DO UPDATE SET quantity = known.quantity + excluded.quantity
), newest AS (
    UPDATE usage_ledger SET last_id = greatest(last_id, (SELECT max(id) FROM new)) WHERE EXISTS (SELECT FROM new)
)
SELECT count(*) AS stored FROM new;

-- name: next_correction
-- Out: a number that no other correction has.
SELECT nextval('usage_entry_ids');

-- name: note_moved_to
-- In: $1 the instant before which everything is here.
UPDATE usage_ledger SET moved_to = $1;

-- name: moved_to
-- Out: moved_to, null if nothing ever was.
SELECT moved_to FROM usage_ledger;
