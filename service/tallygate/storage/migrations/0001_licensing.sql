-- Customers, plans, subscriptions, tokens, compiled licenses, the change log and the audit log.
-- Guarantees kept by the database itself:
--   * a published plan version never changes and is never deleted;
--   * the change log is numbered in commit order (see record_change);
--   * the audit log only grows;
--   * the data plane's role reads through functions only and can list nothing.

CREATE TABLE customers (
    id          text PRIMARY KEY CHECK (id ~ '^cus_[0-9a-z]{26}$'),
    key         text NOT NULL UNIQUE CHECK (key ~ '^[a-z0-9][a-z0-9._-]{0,62}$'),
    name        text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    status      text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'past_due', 'suspended', 'closed')),
    created_at  timestamptz NOT NULL,
    updated_at  timestamptz NOT NULL
);

CREATE TABLE plans (
    key         text PRIMARY KEY CHECK (key ~ '^[a-z][a-z0-9_-]{0,62}$'),
    created_at  timestamptz NOT NULL
);

CREATE TABLE plan_versions (
    plan_key     text NOT NULL REFERENCES plans (key),
    version      integer NOT NULL CHECK (version > 0),
    name         text NOT NULL,
    document     jsonb NOT NULL,
    created_at   timestamptz NOT NULL,
    published_at timestamptz,
    PRIMARY KEY (plan_key, version)
);

CREATE FUNCTION refuse_change_of_published_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.published_at IS NOT NULL THEN
        RAISE EXCEPTION 'plan version %@% is published and cannot be changed', OLD.plan_key, OLD.version
            USING ERRCODE = 'restrict_violation', HINT = 'publish a new version instead';
    END IF;
    RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END $$;

CREATE TRIGGER plan_versions_are_immutable BEFORE UPDATE OR DELETE ON plan_versions
    FOR EACH ROW EXECUTE FUNCTION refuse_change_of_published_version();

CREATE FUNCTION refuse_truncate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% cannot be truncated', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END $$;

CREATE TRIGGER plan_versions_are_not_truncated BEFORE TRUNCATE ON plan_versions
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_truncate();

-- The route rules in force; the newest row counts. `document` is the `routes` list of a plan file.
CREATE TABLE route_tables (
    version     integer PRIMARY KEY CHECK (version > 0),
    document    jsonb NOT NULL,
    created_at  timestamptz NOT NULL
);

CREATE TABLE subscriptions (
    id            text PRIMARY KEY CHECK (id ~ '^sub_[0-9a-z]{26}$'),
    customer_id   text NOT NULL REFERENCES customers (id),
    plan_key      text NOT NULL,
    plan_version  integer NOT NULL,
    environment   text NOT NULL CHECK (environment IN ('live', 'test')),
    anchor_at     timestamptz NOT NULL,
    timezone      text NOT NULL DEFAULT 'UTC',
    starts_at     timestamptz NOT NULL,
    ends_at       timestamptz CHECK (ends_at >= starts_at),
    suspended_at  timestamptz,
    created_at    timestamptz NOT NULL,
    updated_at    timestamptz NOT NULL,
    FOREIGN KEY (plan_key, plan_version) REFERENCES plan_versions (plan_key, version)
);
CREATE INDEX subscriptions_by_customer ON subscriptions (customer_id, id);
CREATE INDEX subscriptions_by_plan ON subscriptions (plan_key, plan_version, id);

CREATE TABLE token_families (
    id               text PRIMARY KEY CHECK (id ~ '^fam_[0-9a-z]{26}$'),
    subscription_id  text NOT NULL REFERENCES subscriptions (id),
    name             text NOT NULL DEFAULT '',
    created_at       timestamptz NOT NULL
);
CREATE INDEX token_families_by_subscription ON token_families (subscription_id, id);

-- `scopes` null: all of the plan's. `networks` empty: from anywhere. `hint` is the last four characters.
CREATE TABLE tokens (
    id             text PRIMARY KEY CHECK (id ~ '^tok_[0-9a-z]{26}$'),
    family_id      text NOT NULL REFERENCES token_families (id),
    digest         bytea NOT NULL UNIQUE CHECK (octet_length(digest) = 32),
    pepper_id      text NOT NULL,
    hint           text NOT NULL CHECK (length(hint) = 4),
    scopes         text[],
    networks       cidr[] NOT NULL DEFAULT '{}',
    not_before_at  timestamptz,
    expires_at     timestamptz,
    revoked_at     timestamptz,
    disabled_at    timestamptz,
    created_at     timestamptz NOT NULL
);
CREATE INDEX tokens_by_family ON tokens (family_id, id);

-- The compiled terms of a subscription; `generation` is the change that wrote them.
CREATE TABLE licenses (
    subscription_id  text PRIMARY KEY REFERENCES subscriptions (id),
    terms            jsonb NOT NULL,
    generation       bigint NOT NULL
);

-- `subject` is the id of a customer, subscription, family or token, or 'routes'.
CREATE TABLE license_changes (
    generation  bigint PRIMARY KEY,
    subject     text NOT NULL,
    changed_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX license_changes_by_time ON license_changes (changed_at);

-- The last number given out and the oldest still in the log; one row. Locking it makes numbers commit in order.
CREATE TABLE license_generation (
    is_only   boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    newest    bigint NOT NULL,
    pruned_to bigint NOT NULL
);
INSERT INTO license_generation (newest, pruned_to) VALUES (0, 0);

-- Number a change of `subject`, log it and notify. The row lock is held until commit, so a reader that
-- sees number n sees every number below it. Returns the number.
CREATE FUNCTION record_change(subject text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    number bigint;
BEGIN
    UPDATE license_generation SET newest = newest + 1 RETURNING newest INTO number;
    INSERT INTO license_changes (generation, subject) VALUES (number, record_change.subject);
    PERFORM pg_notify('license_changed_v1', json_build_object('generation', number, 'subject', record_change.subject)::text);
    RETURN number;
END $$;

-- Forget changes older than `keep`; readers further behind are told their view is incomplete.
CREATE FUNCTION prune_changes(keep interval) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    last_gone bigint;
BEGIN
    PERFORM 1 FROM license_generation FOR UPDATE;
    WITH gone AS (DELETE FROM license_changes WHERE changed_at < now() - keep RETURNING generation)
    SELECT max(generation) INTO last_gone FROM gone;
    UPDATE license_generation SET pruned_to = greatest(pruned_to, coalesce(last_gone, 0));
    RETURN last_gone;
END $$;

CREATE TABLE audit (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at          timestamptz NOT NULL,
    actor       text NOT NULL,
    action      text NOT NULL,
    object      text NOT NULL,
    before      jsonb,
    after       jsonb,
    reason      text NOT NULL DEFAULT ''
);
CREATE INDEX audit_by_object ON audit (object, id);

CREATE FUNCTION refuse_change_of_audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log only grows' USING ERRCODE = 'restrict_violation';
END $$;

CREATE TRIGGER audit_only_grows BEFORE UPDATE OR DELETE ON audit
    FOR EACH ROW EXECUTE FUNCTION refuse_change_of_audit();
CREATE TRIGGER audit_is_not_truncated BEFORE TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_truncate();

-- What the data plane may ask. Each runs with the owner's rights, in one snapshot.

CREATE FUNCTION find_license_v1(digests bytea[], OUT as_of bigint, OUT license jsonb)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $$
    SELECT g.newest, (
        SELECT jsonb_build_object(
            'customer', c.id, 'customer_status', c.status, 'subscription', s.id, 'family', f.id, 'token', t.id,
            'terms', l.terms, 'generation', l.generation, 'scopes', t.scopes, 'networks', t.networks,
            'not_before_at', t.not_before_at, 'expires_at', t.expires_at,
            'revoked_at', t.revoked_at, 'disabled_at', t.disabled_at)
        FROM tokens t
        JOIN token_families f ON f.id = t.family_id
        JOIN subscriptions s ON s.id = f.subscription_id
        JOIN customers c ON c.id = s.customer_id
        JOIN licenses l ON l.subscription_id = s.id
        WHERE t.digest = ANY (digests)
        LIMIT 1)
    FROM license_generation g
$$;

CREATE FUNCTION current_routes_v1(OUT as_of bigint, OUT document jsonb)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $$
    SELECT g.newest, (SELECT r.document FROM route_tables r ORDER BY r.version DESC LIMIT 1)
    FROM license_generation g
$$;

CREATE FUNCTION current_generation_v1(OUT newest bigint, OUT pruned_to bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $$
    SELECT g.newest, g.pruned_to FROM license_generation g
$$;

CREATE FUNCTION changes_since_v1(after bigint) RETURNS TABLE (generation bigint, subject text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $$
    SELECT c.generation, c.subject FROM license_changes c WHERE c.generation > after ORDER BY c.generation
$$;

DO $$
BEGIN
    CREATE ROLE tallygate_dataplane NOLOGIN;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    NULL; -- roles belong to the whole server: another database of it has been migrated before
END $$;
DO $$
BEGIN
    CREATE ROLE tallygate_control NOLOGIN;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    NULL;
END $$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA public FROM PUBLIC;
GRANT EXECUTE ON FUNCTION find_license_v1, current_routes_v1, current_generation_v1, changes_since_v1 TO tallygate_dataplane;
GRANT SELECT, INSERT, UPDATE ON customers, plans, plan_versions, route_tables, subscriptions, token_families, tokens, licenses
    TO tallygate_control;
GRANT SELECT, INSERT ON license_changes, audit TO tallygate_control;
GRANT DELETE ON license_changes TO tallygate_control;
GRANT SELECT, UPDATE ON license_generation TO tallygate_control;
GRANT EXECUTE ON FUNCTION record_change, prune_changes,
    find_license_v1, current_routes_v1, current_generation_v1, changes_since_v1 TO tallygate_control;
