-- Everything issue, change and revoke need: contracts with a life of their own, lifecycle of plan versions, shadows,
-- admin keys, stored answers, leaks, last use, and an audit log that shows when it was tampered with.
-- Guarantees kept by the database itself, beside those of 0001:
--   * two subscriptions of a customer in one environment never overlap;
--   * of a published plan version only its lifecycle changes, and a retired one is final;
--   * every audit entry carries the hash of the one before, and the newest hash stands apart (audit_head).

-- btree_gist lets an exclusion constraint compare text. It is a trusted extension: the database's owner may
-- create it. Where that is not allowed, have it created beforehand, in any schema.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'btree_gist') THEN
        CREATE SCHEMA IF NOT EXISTS tallygate_extensions;
        CREATE EXTENSION btree_gist WITH SCHEMA tallygate_extensions;
    END IF;
END $$;

-- Customers ----------------------------------------------------------------------------------------------------

-- `past_due_at` is when a payment failed; it stays through a suspension and goes when all is paid.
ALTER TABLE customers ADD COLUMN past_due_at timestamptz;
ALTER TABLE customers ADD COLUMN revision integer NOT NULL DEFAULT 1;
UPDATE customers SET past_due_at = updated_at WHERE status = 'past_due';
CREATE INDEX customers_by_status ON customers (status, id);

-- Plan versions ------------------------------------------------------------------------------------------------

-- published → deprecated (no new subscriptions; may be taken back) → retired (for good).
ALTER TABLE plan_versions ADD COLUMN deprecated_at timestamptz CHECK (deprecated_at IS NULL OR published_at IS NOT NULL);
ALTER TABLE plan_versions ADD COLUMN retired_at timestamptz CHECK (retired_at IS NULL OR deprecated_at IS NOT NULL);
ALTER TABLE plan_versions ADD COLUMN revision integer NOT NULL DEFAULT 1;

-- Compares the whole row's bytes with the lifecycle put back, so that a column added later is protected too.
CREATE OR REPLACE FUNCTION refuse_change_of_published_version() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    otherwise plan_versions;
BEGIN
    IF OLD.published_at IS NULL THEN
        RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
    END IF;
    IF TG_OP = 'UPDATE' AND OLD.retired_at IS NULL THEN
        otherwise := NEW;
        otherwise.deprecated_at := OLD.deprecated_at;
        otherwise.retired_at := OLD.retired_at;
        otherwise.revision := OLD.revision;
        IF otherwise *= OLD AND NEW *<> OLD THEN
            RETURN NEW;
        END IF;
    END IF;
    RAISE EXCEPTION 'plan version %@% is published and cannot be changed', OLD.plan_key, OLD.version
        USING ERRCODE = 'restrict_violation', HINT = 'publish a new version instead';
END $$;

-- A version that is tried beside another: those who are on `plan` also count, without effect, on `shadow`.
CREATE TABLE plan_shadows (
    id              text PRIMARY KEY CHECK (id ~ '^shd_[0-9a-z]{26}$'),
    plan_key        text NOT NULL,
    plan_version    integer NOT NULL,
    shadow_key      text NOT NULL,
    shadow_version  integer NOT NULL,
    started_at      timestamptz NOT NULL,
    stopped_at      timestamptz CHECK (stopped_at >= started_at),
    FOREIGN KEY (plan_key, plan_version) REFERENCES plan_versions (plan_key, version),
    FOREIGN KEY (shadow_key, shadow_version) REFERENCES plan_versions (plan_key, version)
);
CREATE UNIQUE INDEX plan_shadows_running ON plan_shadows (plan_key, plan_version) WHERE stopped_at IS NULL;

-- Subscriptions ------------------------------------------------------------------------------------------------

-- `trial_to_…` is the version a trial falls back to, pinned when the subscription is made.
ALTER TABLE subscriptions ADD COLUMN trial_to_key text;
ALTER TABLE subscriptions ADD COLUMN trial_to_version integer CHECK ((trial_to_key IS NULL) = (trial_to_version IS NULL));
ALTER TABLE subscriptions ADD COLUMN revision integer NOT NULL DEFAULT 1;
ALTER TABLE subscriptions ADD FOREIGN KEY (trial_to_key, trial_to_version) REFERENCES plan_versions (plan_key, version);
CREATE INDEX subscriptions_by_trial_to ON subscriptions (trial_to_key, trial_to_version, id)
    WHERE trial_to_key IS NOT NULL;

DO $$
DECLARE
    pairs text;
BEGIN
    SELECT string_agg(a.id || ' and ' || b.id, ', ' ORDER BY a.id, b.id) INTO pairs
    FROM subscriptions a JOIN subscriptions b
        ON b.customer_id = a.customer_id AND b.environment = a.environment AND b.id > a.id
        AND tstzrange(b.starts_at, b.ends_at) && tstzrange(a.starts_at, a.ends_at);
    IF pairs IS NOT NULL THEN
        RAISE EXCEPTION 'subscriptions of one customer overlap: %', pairs
            USING HINT = 'cancel one of each pair with the version of Tallygate that made them, then migrate again';
    END IF;
END $$;
-- Half-open: one may begin in the instant another ends. One that ended as it began overlaps nothing.
ALTER TABLE subscriptions ADD CONSTRAINT subscriptions_do_not_overlap
    EXCLUDE USING gist (customer_id WITH =, environment WITH =, tstzrange(starts_at, ends_at) WITH &&);

-- From `at` on another plan version is in force, unless canceled. Changes of the past stay: the license is
-- compiled from all of them. Of two for one instant the one with the greater id counts: the later made.
CREATE TABLE subscription_changes (
    id               text PRIMARY KEY CHECK (id ~ '^chg_[0-9a-z]{26}$'),
    subscription_id  text NOT NULL REFERENCES subscriptions (id),
    at               timestamptz NOT NULL,
    plan_key         text NOT NULL,
    plan_version     integer NOT NULL,
    carry            text NOT NULL CHECK (carry IN ('carry', 'prorate', 'reset')),
    created_at       timestamptz NOT NULL,
    canceled_at      timestamptz,
    FOREIGN KEY (plan_key, plan_version) REFERENCES plan_versions (plan_key, version)
);
CREATE INDEX subscription_changes_by_subscription ON subscription_changes (subscription_id, at, id);
CREATE INDEX subscription_changes_by_plan ON subscription_changes (plan_key, plan_version, subscription_id);

-- The terms a contract has of its own; the newest row of a subscription counts.
CREATE TABLE subscription_overrides (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subscription_id  text NOT NULL REFERENCES subscriptions (id),
    document         jsonb NOT NULL,
    actor            text NOT NULL,
    reason           text NOT NULL DEFAULT '',
    at               timestamptz NOT NULL
);
CREATE INDEX subscription_overrides_by_subscription ON subscription_overrides (subscription_id, id);

CREATE TABLE credit_grants (
    id               text PRIMARY KEY CHECK (id ~ '^grt_[0-9a-z]{26}$'),
    subscription_id  text NOT NULL REFERENCES subscriptions (id),
    limit_name       text NOT NULL,
    amount           bigint NOT NULL CHECK (amount > 0),
    at               timestamptz NOT NULL,
    expires_at       timestamptz CHECK (expires_at > at),
    actor            text NOT NULL,
    reason           text NOT NULL DEFAULT ''
);
CREATE INDEX credit_grants_by_subscription ON credit_grants (subscription_id, id);

-- Tokens -------------------------------------------------------------------------------------------------------

ALTER TABLE tokens ADD COLUMN leaked_at timestamptz;
ALTER TABLE tokens ADD COLUMN revision integer NOT NULL DEFAULT 1;
CREATE INDEX tokens_by_hint ON tokens (hint, id);
CREATE INDEX token_families_by_name ON token_families (name, id) WHERE name <> '';

-- Approximate: see note_tokens_used_v1. Apart from `tokens`, so that using a token does not rewrite it.
CREATE TABLE token_last_used (
    token_id  text PRIMARY KEY REFERENCES tokens (id),
    at        timestamptz NOT NULL
);

-- Note that tokens were used at `at`: forward only, and at most one write per token and hour.
CREATE FUNCTION note_tokens_used_v1(ids text[], at timestamptz) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT AS $$
    INSERT INTO token_last_used AS known (token_id, at)
    SELECT t.id, note_tokens_used_v1.at FROM tokens t WHERE t.id = ANY (ids) ORDER BY t.id
    ON CONFLICT (token_id) DO UPDATE SET at = excluded.at WHERE known.at <= excluded.at - interval '1 hour'
$$;

-- A secret found in public, without the secret. `token_id` null: it is none of ours.
CREATE TABLE leak_reports (
    id        text PRIMARY KEY CHECK (id ~ '^lek_[0-9a-z]{26}$'),
    at        timestamptz NOT NULL,
    token_id  text REFERENCES tokens (id),
    type      text NOT NULL,
    url       text NOT NULL,
    source    text NOT NULL,
    action    text NOT NULL CHECK (action IN ('revoked', 'rotated', 'none'))
);
CREATE INDEX leak_reports_by_token ON leak_reports (token_id, id) WHERE token_id IS NOT NULL;

-- Administration -----------------------------------------------------------------------------------------------

CREATE TABLE admin_keys (
    id            text PRIMARY KEY CHECK (id ~ '^key_[0-9a-z]{26}$'),
    name          text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    role          text NOT NULL CHECK (role IN ('viewer', 'issuer', 'admin')),
    digest        bytea NOT NULL UNIQUE CHECK (octet_length(digest) = 32),
    created_at    timestamptz NOT NULL,
    revoked_at    timestamptz,
    last_used_at  timestamptz
);

-- Answers to requests that carried an Idempotency-Key, of which only a digest is kept. A secret in the body is
-- cut out; `nonce`, the key and the pepper give it back, and no two of them do.
CREATE TABLE idempotency_keys (
    actor          text NOT NULL,
    key_digest     bytea NOT NULL CHECK (octet_length(key_digest) = 32),
    request_hash   bytea NOT NULL CHECK (octet_length(request_hash) = 32),
    nonce          bytea NOT NULL CHECK (octet_length(nonce) = 16),
    status         integer,
    headers        jsonb,
    body           bytea,
    secret_prefix  text,
    pepper_id      text NOT NULL,
    created_at     timestamptz NOT NULL,
    expires_at     timestamptz NOT NULL,
    PRIMARY KEY (actor, key_digest)
);
CREATE INDEX idempotency_keys_by_expiry ON idempotency_keys (expires_at);

-- Audit --------------------------------------------------------------------------------------------------------

ALTER TABLE audit ALTER COLUMN id DROP IDENTITY;
ALTER TABLE audit ADD COLUMN request_id text NOT NULL DEFAULT '';
ALTER TABLE audit ADD COLUMN previous_hash bytea;
ALTER TABLE audit ADD COLUMN hash bytea;
CREATE INDEX audit_by_actor ON audit (actor, id);
CREATE INDEX audit_by_action ON audit (action, id);
CREATE INDEX audit_by_time ON audit (at, id);

-- The newest entry's number and hash, so that taking the newest entries away shows. One row, written by the
-- trigger below only.
CREATE TABLE audit_head (
    is_only  boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    id       bigint NOT NULL,
    hash     bytea NOT NULL CHECK (octet_length(hash) = 32)
);
INSERT INTO audit_head (id, hash) VALUES (0, decode(repeat('00', 32), 'hex'));

-- A text that cannot run into the next one: `5:hello,`, or `-,` for null.
CREATE FUNCTION netstring(value text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT coalesce(octet_length(value) || ':' || value || ',', '-,')
$$;

-- SHA-256 of the previous entry's hash and the netstrings of number, instant, actor, action, object, before,
-- after, reason and request id, in UTF-8; json as Postgres prints jsonb. `admin/audit_chain.py` says it again.
CREATE FUNCTION audit_hash(entry audit) RETURNS bytea LANGUAGE sql STABLE SET search_path FROM CURRENT AS $$
    SELECT sha256(entry.previous_hash || convert_to(
        netstring(entry.id::text)
        || netstring(to_char(entry.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))
        || netstring(entry.actor) || netstring(entry.action) || netstring(entry.object)
        || netstring(entry.before::text) || netstring(entry.after::text)
        || netstring(entry.reason) || netstring(entry.request_id), 'UTF8'))
$$;

-- Numbers and chains an entry. The head is locked until commit: entries are numbered in commit order, without gaps.
CREATE FUNCTION chain_audit() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    head audit_head;
BEGIN
    SELECT * INTO STRICT head FROM audit_head FOR UPDATE;
    NEW.id := head.id + 1;
    NEW.previous_hash := head.hash;
    NEW.hash := audit_hash(NEW);
    UPDATE audit_head SET id = NEW.id, hash = NEW.hash;
    RETURN NEW;
END $$;

-- Chain what is there already; its numbers stay, gaps and all.
ALTER TABLE audit DISABLE TRIGGER audit_only_grows;
DO $$
DECLARE
    entry audit;
    newest bytea := decode(repeat('00', 32), 'hex');
BEGIN
    FOR entry IN SELECT * FROM audit ORDER BY id LOOP
        entry.previous_hash := newest;
        newest := audit_hash(entry);
        UPDATE audit SET previous_hash = entry.previous_hash, hash = newest WHERE id = entry.id;
        UPDATE audit_head SET id = entry.id, hash = newest;
    END LOOP;
END $$;
ALTER TABLE audit ENABLE TRIGGER audit_only_grows;
ALTER TABLE audit ALTER COLUMN previous_hash SET NOT NULL, ALTER COLUMN hash SET NOT NULL;

CREATE TRIGGER audit_is_chained BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION chain_audit();

-- Rights -------------------------------------------------------------------------------------------------------

REVOKE ALL ON FUNCTION note_tokens_used_v1, netstring, audit_hash, chain_audit FROM PUBLIC;
GRANT EXECUTE ON FUNCTION note_tokens_used_v1 TO tallygate_dataplane, tallygate_control;
GRANT SELECT, INSERT, UPDATE ON plan_shadows, subscription_changes, token_last_used, admin_keys, idempotency_keys
    TO tallygate_control;
GRANT DELETE ON idempotency_keys TO tallygate_control;
GRANT SELECT, INSERT ON subscription_overrides, credit_grants, leak_reports TO tallygate_control;
GRANT SELECT ON audit_head TO tallygate_control;
