-- A business of some size, made by Postgres itself within a second or two: enough rows that an index is worth its while,
-- and every table that grows with the business filled. Run by the superuser, for triggers and foreign keys are left out.
-- Nothing here is a license: `terms` are empty.

SET session_replication_role = replica;

CREATE FUNCTION pg_temp.id(prefix text, number bigint) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT prefix || '_' || lpad(number::text, 26, '0')
$$;
CREATE FUNCTION pg_temp.hash(number bigint) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$
    SELECT sha256(number::text::bytea)
$$;

INSERT INTO plans SELECT 'plan' || n, now() FROM generate_series(0, 19) n;
INSERT INTO plan_versions (plan_key, version, name, document, created_at, published_at)
SELECT 'plan' || n % 20, 1 + n / 20, 'A plan', '{}', now(), now() FROM generate_series(0, 199) n;
INSERT INTO plan_shadows (id, plan_key, plan_version, shadow_key, shadow_version, started_at)
SELECT pg_temp.id('shd', n), 'plan' || n, 1, 'plan' || n, 2, now() FROM generate_series(0, 9) n;
INSERT INTO route_tables SELECT n, '[]', now() FROM generate_series(1, 20) n;

INSERT INTO customers (id, key, name, status, created_at, updated_at)
SELECT pg_temp.id('cus', n), 'customer-' || n, 'Customer ' || n, CASE WHEN n % 50 = 0 THEN 'past_due' ELSE 'active' END,
    now(), now()
FROM generate_series(0, 9999) n;

-- One in two has a second one, to try things with; one in ten falls back to another version after its trial.
INSERT INTO subscriptions (id, customer_id, plan_key, plan_version, environment, anchor_at, starts_at, ends_at,
                           trial_to_key, trial_to_version, created_at, updated_at)
SELECT pg_temp.id('sub', n), pg_temp.id('cus', n % 10000), 'plan' || n % 20, 1 + n / 20 % 10,
    CASE WHEN n < 10000 THEN 'live' ELSE 'test' END, now() - interval '1 year', now() - interval '1 year',
    CASE WHEN n % 20 = 0 THEN now() END,
    CASE WHEN n % 10 = 0 THEN 'plan' || n / 10 % 20 END, CASE WHEN n % 10 = 0 THEN 1 + n / 200 % 10 END, now(), now()
FROM generate_series(0, 14999) n;
INSERT INTO licenses SELECT id, '{}', row_number() OVER (ORDER BY id) FROM subscriptions;
INSERT INTO subscription_changes (id, subscription_id, at, plan_key, plan_version, carry, created_at)
SELECT pg_temp.id('chg', n), pg_temp.id('sub', n * 7 % 15000), now() - interval '1 day', 'plan' || n % 20, 1 + n / 20 % 10,
    'carry', now()
FROM generate_series(0, 9999) n;
INSERT INTO subscription_overrides (subscription_id, document, actor, at)
SELECT pg_temp.id('sub', n * 11 % 15000), '{}', 'test', now() FROM generate_series(0, 4999) n;
INSERT INTO credit_grants (id, subscription_id, limit_name, amount, at, actor)
SELECT pg_temp.id('grt', n), pg_temp.id('sub', n * 13 % 15000), 'prepaid', 100, now(), 'test' FROM generate_series(0, 4999) n;

INSERT INTO token_families (id, subscription_id, name, created_at)
SELECT pg_temp.id('fam', n), pg_temp.id('sub', n % 15000), CASE WHEN n % 3 > 0 THEN 'name ' || n % 3000 ELSE '' END, now()
FROM generate_series(0, 19999) n;
INSERT INTO tokens (id, family_id, subscription_id, customer_id, name, digest, pepper_id, hint, revoked_at, created_at)
SELECT pg_temp.id('tok', n), f.id, s.id, s.customer_id, f.name, pg_temp.hash(n), 'pepper', right(md5(n::text), 4),
    CASE WHEN n % 100 = 0 THEN now() END, now()
FROM generate_series(0, 24999) n JOIN token_families f ON f.id = pg_temp.id('fam', n % 20000)
JOIN subscriptions s ON s.id = f.subscription_id;
INSERT INTO token_last_used SELECT id, now() FROM tokens;

-- The whale: the customer who came last, with 100,000 tokens in one subscription, all of one name and half of one family.
INSERT INTO customers (id, key, name, created_at, updated_at)
SELECT pg_temp.id('cus', 10000), 'whale', 'Whale', now(), now();
INSERT INTO subscriptions (id, customer_id, plan_key, plan_version, environment, anchor_at, starts_at, created_at, updated_at)
SELECT pg_temp.id('sub', 15000), pg_temp.id('cus', 10000), 'plan1', 1, 'live', now(), now(), now(), now();
INSERT INTO token_families (id, subscription_id, name, created_at)
SELECT pg_temp.id('fam', n), pg_temp.id('sub', 15000), 'whale', now() FROM generate_series(20000, 20500) n;
INSERT INTO tokens (id, family_id, subscription_id, customer_id, name, digest, pepper_id, hint, created_at)
SELECT pg_temp.id('tok', n), pg_temp.id('fam', 20000 + n % 2 * (n % 501)), pg_temp.id('sub', 15000),
    pg_temp.id('cus', 10000), 'whale', pg_temp.hash(n), 'pepper', right(md5(n::text), 4), now()
FROM generate_series(25000, 124999) n;
-- Before this contract they had 5,000 others, an hour each.
INSERT INTO subscriptions (id, customer_id, plan_key, plan_version, environment, anchor_at, starts_at, ends_at,
                           created_at, updated_at)
SELECT pg_temp.id('sub', n), pg_temp.id('cus', 10000), 'plan1', 1, 'live', now(), now() - (n - 15000) * interval '1 hour',
    now() - (n - 15001) * interval '1 hour', now(), now()
FROM generate_series(15001, 20000) n;
INSERT INTO leak_reports (id, at, token_id, type, url, source, action)
SELECT pg_temp.id('lek', n), now(), pg_temp.id('tok', n), 'tallygate', '', '', 'none' FROM generate_series(0, 1999) n;

INSERT INTO license_changes (generation, subject, changed_at)
SELECT n, pg_temp.id('tok', n), now() - (20000 - n) * interval '1 minute' FROM generate_series(1, 20000) n;
UPDATE license_generation SET newest = 20000;
INSERT INTO audit (id, at, actor, action, object, previous_hash, hash)
SELECT n, now() - (20000 - n) * interval '1 minute', 'key:' || n % 50, 'token.' || n % 20, pg_temp.id('tok', n),
    pg_temp.hash(n - 1), pg_temp.hash(n)
FROM generate_series(1, 20000) n;
-- The whale has a program that does one thing only, and to one token.
INSERT INTO audit (id, at, actor, action, object, previous_hash, hash)
SELECT n, now(), 'key:whale', 'token.whale', pg_temp.id('tok', 125000), pg_temp.hash(n - 1), pg_temp.hash(n)
FROM generate_series(20001, 25000) n;
UPDATE audit_head SET id = 25000, hash = pg_temp.hash(25000);

INSERT INTO admin_keys (id, name, role, digest, created_at)
SELECT pg_temp.id('key', n), 'Key ' || n, 'viewer', pg_temp.hash(n), now() FROM generate_series(0, 49) n;
INSERT INTO idempotency_keys (actor, key_digest, request_hash, nonce, pepper_id, created_at, expires_at)
SELECT 'key:' || n % 50, pg_temp.hash(n), pg_temp.hash(n), substr(pg_temp.hash(n), 1, 16), 'pepper', now(),
    now() + (n - 100) * interval '1 minute'
FROM generate_series(0, 9999) n;

-- Usage of five months, from last month on: in every partition that a fresh database has.
CREATE TEMPORARY TABLE used AS
SELECT pg_temp.id('cus', n % 5000) AS customer_id, pg_temp.id('sub', n % 5000) AS subscription_id,
    pg_temp.id('fam', n % 5000) AS family_id, 'plan' || n % 20 || '@1' AS plan, 'requests' AS meter,
    'GET /v1/route' || n % 40 AS route, 'allowed' AS outcome,
    date_trunc('month', now() - interval '1 month', 'UTC') + n * interval '8 minutes' AS at, n
FROM generate_series(0, 25999) n;
INSERT INTO usage_entries (id, recorded_at, bucket, customer_id, subscription_id, family_id, plan, meter, route, outcome,
                           entry, minute_at, quantity)
SELECT n, at, n, customer_id, subscription_id, family_id, plan, meter, route, outcome, 'counted', at, n FROM used;
INSERT INTO usage_hours SELECT customer_id, subscription_id, family_id, plan, meter, route, outcome, at, n FROM used;
INSERT INTO usage_days SELECT customer_id, subscription_id, family_id, plan, meter, route, outcome, at, n FROM used;
INSERT INTO usage_months SELECT customer_id, subscription_id, family_id, plan, meter, route, outcome, at, n FROM used;
INSERT INTO usage_totals SELECT at, plan, meter, route, outcome, n FROM used;

-- By what others know who used it.
INSERT INTO customer_references SELECT id, 'stripe', 'cus_' || id, now() FROM customers;

RESET session_replication_role;
ANALYZE;
