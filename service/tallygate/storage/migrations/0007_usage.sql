-- The usage ledger: what enforcement counted, and what is added up of it. Docs: docs/usage.md, docs/decisions/0013.
-- Guarantees kept by the database itself:
--   * the same numbers of the same bucket are stored once, however often they are delivered;
--   * whoever writes locks the row of usage_ledger first, so ids are given in the order of commits.
-- Nothing refers to other tables: the ledger must never refuse what was counted.

CREATE SEQUENCE usage_entry_ids;

-- One thing counted in one bucket. recorded_at is the bucket's minute, or when a correction was made; bucket is when it
-- was opened, in us since 1970, or a correction's own number. minute_at is the minute the units belong to. Nothing is ever
-- rewritten.
CREATE TABLE usage_entries (
    id               bigint NOT NULL DEFAULT nextval('usage_entry_ids'),
    recorded_at      timestamptz NOT NULL,
    bucket           bigint NOT NULL,
    customer_id      text COLLATE "C" NOT NULL,
    subscription_id  text COLLATE "C" NOT NULL,
    family_id        text COLLATE "C" NOT NULL,
    plan             text COLLATE "C" NOT NULL,
    meter            text COLLATE "C" NOT NULL,
    route            text COLLATE "C" NOT NULL,
    outcome          text COLLATE "C" NOT NULL CHECK (outcome IN ('allowed', 'overage')),
    entry            text COLLATE "C" NOT NULL
        CHECK (entry IN ('counted', 'refund', 'settlement', 'report', 'degraded', 'correction')),
    minute_at        timestamptz NOT NULL,
    quantity         bigint NOT NULL,
    reason           text NOT NULL DEFAULT '',
    CONSTRAINT usage_entries_once UNIQUE (
        recorded_at, customer_id, bucket, subscription_id, family_id, plan, meter, outcome, entry, minute_at, route)
) PARTITION BY RANGE (recorded_at);
CREATE INDEX usage_entries_by_id ON usage_entries (id);
CREATE INDEX usage_entries_by_subscription ON usage_entries (subscription_id, minute_at);
CREATE INDEX usage_entries_by_customer ON usage_entries (customer_id, minute_at);

-- What usage_entries come to by hour, day and month of minute_at, in UTC; written in the transaction of the entries.
-- Texts compare by their bytes here ("C"): pages are read in the order of the primary key, and continued in Python.
CREATE TABLE usage_hours (
    customer_id      text COLLATE "C" NOT NULL,
    subscription_id  text COLLATE "C" NOT NULL,
    family_id        text COLLATE "C" NOT NULL,
    plan             text COLLATE "C" NOT NULL,
    meter            text COLLATE "C" NOT NULL,
    route            text COLLATE "C" NOT NULL,
    outcome          text COLLATE "C" NOT NULL,
    from_at          timestamptz NOT NULL,
    quantity         bigint NOT NULL,
    PRIMARY KEY (customer_id, from_at, subscription_id, family_id, plan, meter, route, outcome)
) PARTITION BY RANGE (from_at);
CREATE INDEX usage_hours_by_time ON usage_hours (from_at);
CREATE TABLE usage_days (
    customer_id      text COLLATE "C" NOT NULL,
    subscription_id  text COLLATE "C" NOT NULL,
    family_id        text COLLATE "C" NOT NULL,
    plan             text COLLATE "C" NOT NULL,
    meter            text COLLATE "C" NOT NULL,
    route            text COLLATE "C" NOT NULL,
    outcome          text COLLATE "C" NOT NULL,
    from_at          timestamptz NOT NULL,
    quantity         bigint NOT NULL,
    PRIMARY KEY (customer_id, from_at, subscription_id, family_id, plan, meter, route, outcome)
) PARTITION BY RANGE (from_at);
CREATE INDEX usage_days_by_time ON usage_days (from_at);
CREATE TABLE usage_months (
    customer_id      text COLLATE "C" NOT NULL,
    subscription_id  text COLLATE "C" NOT NULL,
    family_id        text COLLATE "C" NOT NULL,
    plan             text COLLATE "C" NOT NULL,
    meter            text COLLATE "C" NOT NULL,
    route            text COLLATE "C" NOT NULL,
    outcome          text COLLATE "C" NOT NULL,
    from_at          timestamptz NOT NULL,
    quantity         bigint NOT NULL,
    PRIMARY KEY (customer_id, from_at, subscription_id, family_id, plan, meter, route, outcome)
);
CREATE INDEX usage_months_by_time ON usage_months (from_at);

-- What all customers' entries come to by day: a question about everybody is not answered by going through everybody.
CREATE TABLE usage_totals (
    from_at   timestamptz NOT NULL,
    plan      text COLLATE "C" NOT NULL,
    meter     text COLLATE "C" NOT NULL,
    route     text COLLATE "C" NOT NULL,
    outcome   text COLLATE "C" NOT NULL,
    quantity  numeric(40) NOT NULL,  -- of all customers together, each of whom may have nearly 2**63
    PRIMARY KEY (from_at, plan, meter, route, outcome)
);

-- One row: everything before moved_to is in the ledger, and the newest id. Null: nothing was ever moved.
CREATE TABLE usage_ledger (
    is_only   boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    moved_to  timestamptz,
    last_id   bigint NOT NULL
);
INSERT INTO usage_ledger (last_id) VALUES (0);

-- Make what is missing of the partitions for these instants: months of entries and hours, years of days. They are
-- attached, not created in place, for that would shut readers out for a moment.
CREATE FUNCTION make_usage_partitions_v1(instants timestamptz[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT SET timezone = 'UTC' AS $$
DECLARE
    want record;
BEGIN
    FOR want IN
        SELECT DISTINCT parent, unit, date_trunc(unit, at) AS from_at,
            parent || '_' || to_char(at, CASE unit WHEN 'year' THEN 'YYYY' ELSE 'YYYY_MM' END) AS name
        FROM unnest(instants) AS given (at),
            (VALUES ('usage_entries', 'month'), ('usage_hours', 'month'), ('usage_days', 'year')) AS kind (parent, unit)
    LOOP
        CONTINUE WHEN to_regclass(want.name) IS NOT NULL;
        PERFORM pg_advisory_xact_lock(hashtextextended('tallygate usage partitions', 0));
        -- Read, for what was looked up a moment ago is remembered.
        CONTINUE WHEN EXISTS (
            SELECT FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relname = want.name);
        EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL)', want.name, want.parent);
        EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
            want.parent, want.name, want.from_at, want.from_at + ('1 ' || want.unit)::interval);
    END LOOP;
END $$;

-- Drop the partitions of entries and of hours that end by then, and return their names; null keeps them for ever.
CREATE FUNCTION drop_usage_partitions_v1(entries_before timestamptz, hours_before timestamptz) RETURNS SETOF text
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT SET timezone = 'UTC' SET lock_timeout = '2s' AS $$
DECLARE
    old text;
BEGIN
    FOR old IN
        SELECT relid::text
        FROM (VALUES ('usage_entries', entries_before), ('usage_hours', hours_before)) AS kind (parent, before),
            pg_partition_tree(parent::regclass)
        WHERE level = 1 AND to_timestamp(right(relid::text, 7), 'YYYY_MM') + interval '1 month' <= before
        ORDER BY 1
    LOOP
        EXECUTE format('DROP TABLE %I', old);
        RETURN NEXT old;
    END LOOP;
END $$;

-- From last month to three ahead; the worker goes on from there.
SELECT make_usage_partitions_v1(ARRAY(
    SELECT now() + months * interval '1 month' FROM generate_series(-1, 3) AS months));

REVOKE ALL ON FUNCTION make_usage_partitions_v1, drop_usage_partitions_v1 FROM PUBLIC;
GRANT EXECUTE ON FUNCTION make_usage_partitions_v1, drop_usage_partitions_v1 TO tallygate_control;
GRANT SELECT, INSERT ON usage_entries TO tallygate_control;
GRANT SELECT, INSERT, UPDATE ON usage_hours, usage_days, usage_months, usage_totals TO tallygate_control;
GRANT SELECT, UPDATE ON usage_ledger TO tallygate_control;
GRANT USAGE ON SEQUENCE usage_entry_ids TO tallygate_control;
