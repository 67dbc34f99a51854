-- What a fresh database looks like: every table, function, trigger and right, after all migrations.
-- For reading and for reviewing changes. Nothing applies it but the test that proves it equal to the
-- migrations (tests/integration/test_schema.py); a database is made by `tallygate db migrate`.
-- Written by `.ci/schema`; the reasons behind it stand in `migrations/`.

SET search_path = public, pg_temp;

CREATE SCHEMA IF NOT EXISTS tallygate_extensions;
CREATE EXTENSION IF NOT EXISTS btree_gist WITH SCHEMA tallygate_extensions;

DO $$
BEGIN
    CREATE ROLE tallygate_dataplane NOLOGIN;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    NULL;
END $$;

DO $$
BEGIN
    CREATE ROLE tallygate_control NOLOGIN;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    NULL;
END $$;

CREATE TABLE schema_migrations (
    version     integer NOT NULL,
    name        text NOT NULL,
    checksum    text NOT NULL,
    applied_at  timestamp with time zone NOT NULL DEFAULT now(),
    CONSTRAINT schema_migrations_pkey PRIMARY KEY (version),
    CONSTRAINT schema_migrations_version_check CHECK ((version > 0))
);

CREATE TABLE customers (
    id           text NOT NULL,
    key          text NOT NULL,
    name         text NOT NULL,
    status       text NOT NULL DEFAULT 'active'::text,
    created_at   timestamp with time zone NOT NULL,
    updated_at   timestamp with time zone NOT NULL,
    past_due_at  timestamp with time zone,
    revision     integer NOT NULL DEFAULT 1,
    CONSTRAINT customers_pkey PRIMARY KEY (id),
    CONSTRAINT customers_key_key UNIQUE (key),
    CONSTRAINT customers_id_check CHECK ((id ~ '^cus_[0-9a-z]{26}$'::text)),
    CONSTRAINT customers_key_check CHECK ((key ~ '^[a-z0-9][a-z0-9._-]{0,62}$'::text)),
    CONSTRAINT customers_name_check CHECK (((length(name) >= 1) AND (length(name) <= 200))),
    CONSTRAINT customers_status_check CHECK ((status = ANY (ARRAY['active'::text, 'past_due'::text, 'suspended'::text, 'closed'::text])))
);

CREATE TABLE plans (
    key         text NOT NULL,
    created_at  timestamp with time zone NOT NULL,
    CONSTRAINT plans_pkey PRIMARY KEY (key),
    CONSTRAINT plans_key_check CHECK ((key ~ '^[a-z][a-z0-9_-]{0,62}$'::text))
);

CREATE TABLE plan_versions (
    plan_key       text NOT NULL,
    version        integer NOT NULL,
    name           text NOT NULL,
    document       jsonb NOT NULL,
    created_at     timestamp with time zone NOT NULL,
    published_at   timestamp with time zone,
    deprecated_at  timestamp with time zone,
    retired_at     timestamp with time zone,
    revision       integer NOT NULL DEFAULT 1,
    CONSTRAINT plan_versions_pkey PRIMARY KEY (plan_key, version),
    CONSTRAINT plan_versions_version_check CHECK ((version > 0)),
    CONSTRAINT plan_versions_check CHECK (((deprecated_at IS NULL) OR (published_at IS NOT NULL))),
    CONSTRAINT plan_versions_check1 CHECK (((retired_at IS NULL) OR (deprecated_at IS NOT NULL))),
    CONSTRAINT plan_versions_plan_key_fkey FOREIGN KEY (plan_key) REFERENCES plans(key)
);

CREATE OR REPLACE FUNCTION public.refuse_change_of_published_version()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
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
END $function$;

CREATE TRIGGER plan_versions_are_immutable BEFORE DELETE OR UPDATE ON public.plan_versions FOR EACH ROW EXECUTE FUNCTION refuse_change_of_published_version();

CREATE OR REPLACE FUNCTION public.refuse_truncate()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
BEGIN
    RAISE EXCEPTION '% cannot be truncated', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END $function$;

CREATE TRIGGER plan_versions_are_not_truncated BEFORE TRUNCATE ON public.plan_versions FOR EACH STATEMENT EXECUTE FUNCTION refuse_truncate();

CREATE TABLE route_tables (
    version     integer NOT NULL,
    document    jsonb NOT NULL,
    created_at  timestamp with time zone NOT NULL,
    CONSTRAINT route_tables_pkey PRIMARY KEY (version),
    CONSTRAINT route_tables_version_check CHECK ((version > 0))
);

CREATE TABLE subscriptions (
    id                text NOT NULL,
    customer_id       text NOT NULL,
    plan_key          text NOT NULL,
    plan_version      integer NOT NULL,
    environment       text NOT NULL,
    anchor_at         timestamp with time zone NOT NULL,
    timezone          text NOT NULL DEFAULT 'UTC'::text,
    starts_at         timestamp with time zone NOT NULL,
    ends_at           timestamp with time zone,
    suspended_at      timestamp with time zone,
    created_at        timestamp with time zone NOT NULL,
    updated_at        timestamp with time zone NOT NULL,
    trial_to_key      text,
    trial_to_version  integer,
    revision          integer NOT NULL DEFAULT 1,
    first_used_at     timestamp with time zone,
    CONSTRAINT subscriptions_pkey PRIMARY KEY (id),
    CONSTRAINT subscriptions_owner UNIQUE (id, customer_id),
    CONSTRAINT subscriptions_id_check CHECK ((id ~ '^sub_[0-9a-z]{26}$'::text)),
    CONSTRAINT subscriptions_environment_check CHECK ((environment = ANY (ARRAY['live'::text, 'test'::text]))),
    CONSTRAINT subscriptions_check CHECK ((ends_at >= starts_at)),
    CONSTRAINT subscriptions_check1 CHECK (((trial_to_key IS NULL) = (trial_to_version IS NULL))),
    CONSTRAINT subscriptions_customer_id_fkey FOREIGN KEY (customer_id) REFERENCES customers(id),
    CONSTRAINT subscriptions_plan_key_plan_version_fkey FOREIGN KEY (plan_key, plan_version) REFERENCES plan_versions(plan_key, version),
    CONSTRAINT subscriptions_trial_to_key_trial_to_version_fkey FOREIGN KEY (trial_to_key, trial_to_version) REFERENCES plan_versions(plan_key, version),
    CONSTRAINT subscriptions_do_not_overlap EXCLUDE USING gist (customer_id WITH =, environment WITH =, tstzrange(starts_at, ends_at) WITH &&)
);

CREATE INDEX subscriptions_by_customer ON public.subscriptions USING btree (customer_id, id);

CREATE INDEX subscriptions_by_plan ON public.subscriptions USING btree (plan_key, plan_version, id);

CREATE TABLE token_families (
    id               text NOT NULL,
    subscription_id  text NOT NULL,
    name             text NOT NULL DEFAULT ''::text,
    created_at       timestamp with time zone NOT NULL,
    CONSTRAINT token_families_pkey PRIMARY KEY (id),
    CONSTRAINT token_families_owner UNIQUE (id, subscription_id, name),
    CONSTRAINT token_families_id_check CHECK ((id ~ '^fam_[0-9a-z]{26}$'::text)),
    CONSTRAINT token_families_subscription_id_fkey FOREIGN KEY (subscription_id) REFERENCES subscriptions(id)
);

CREATE TABLE tokens (
    id               text NOT NULL,
    family_id        text NOT NULL,
    digest           bytea NOT NULL,
    pepper_id        text NOT NULL,
    hint             text NOT NULL,
    scopes           text[],
    networks         cidr[] NOT NULL DEFAULT '{}'::cidr[],
    not_before_at    timestamp with time zone,
    expires_at       timestamp with time zone,
    revoked_at       timestamp with time zone,
    disabled_at      timestamp with time zone,
    created_at       timestamp with time zone NOT NULL,
    leaked_at        timestamp with time zone,
    revision         integer NOT NULL DEFAULT 1,
    subscription_id  text NOT NULL,
    customer_id      text NOT NULL,
    name             text NOT NULL,
    CONSTRAINT tokens_pkey PRIMARY KEY (id),
    CONSTRAINT tokens_digest_key UNIQUE (digest),
    CONSTRAINT tokens_id_check CHECK ((id ~ '^tok_[0-9a-z]{26}$'::text)),
    CONSTRAINT tokens_digest_check CHECK ((octet_length(digest) = 32)),
    CONSTRAINT tokens_hint_check CHECK ((length(hint) = 4)),
    CONSTRAINT tokens_belong_to_family FOREIGN KEY (family_id, subscription_id, name) REFERENCES token_families(id, subscription_id, name),
    CONSTRAINT tokens_belong_to_customer FOREIGN KEY (subscription_id, customer_id) REFERENCES subscriptions(id, customer_id)
);

CREATE INDEX tokens_by_family ON public.tokens USING btree (family_id, id);

CREATE TABLE licenses (
    subscription_id  text NOT NULL,
    terms            jsonb NOT NULL,
    generation       bigint NOT NULL,
    CONSTRAINT licenses_pkey PRIMARY KEY (subscription_id),
    CONSTRAINT licenses_subscription_id_fkey FOREIGN KEY (subscription_id) REFERENCES subscriptions(id)
);

CREATE TABLE license_changes (
    generation  bigint NOT NULL,
    subject     text NOT NULL,
    changed_at  timestamp with time zone NOT NULL DEFAULT now(),
    CONSTRAINT license_changes_pkey PRIMARY KEY (generation)
);

CREATE INDEX license_changes_by_time ON public.license_changes USING btree (changed_at);

CREATE TABLE license_generation (
    is_only    boolean NOT NULL DEFAULT true,
    newest     bigint NOT NULL,
    pruned_to  bigint NOT NULL,
    CONSTRAINT license_generation_pkey PRIMARY KEY (is_only),
    CONSTRAINT license_generation_is_only_check CHECK (is_only)
);

CREATE OR REPLACE FUNCTION public.record_change(subject text)
 RETURNS bigint
 LANGUAGE plpgsql
AS $function$
DECLARE
    number bigint;
BEGIN
    UPDATE license_generation SET newest = newest + 1 RETURNING newest INTO number;
    INSERT INTO license_changes (generation, subject) VALUES (number, record_change.subject);
    PERFORM pg_notify('license_changed_v1', json_build_object('generation', number, 'subject', record_change.subject)::text);
    RETURN number;
END $function$;

CREATE OR REPLACE FUNCTION public.prune_changes(keep interval)
 RETURNS bigint
 LANGUAGE plpgsql
AS $function$
DECLARE
    last_gone bigint;
BEGIN
    PERFORM 1 FROM license_generation FOR UPDATE;
    WITH gone AS (DELETE FROM license_changes WHERE changed_at < now() - keep RETURNING generation)
    SELECT max(generation) INTO last_gone FROM gone;
    UPDATE license_generation SET pruned_to = greatest(pruned_to, coalesce(last_gone, 0));
    RETURN last_gone;
END $function$;

CREATE TABLE audit (
    id             bigint NOT NULL,
    at             timestamp with time zone NOT NULL,
    actor          text NOT NULL,
    action         text NOT NULL,
    object         text NOT NULL,
    before         jsonb,
    after          jsonb,
    reason         text NOT NULL DEFAULT ''::text,
    request_id     text NOT NULL DEFAULT ''::text,
    previous_hash  bytea NOT NULL,
    hash           bytea NOT NULL,
    CONSTRAINT audit_pkey PRIMARY KEY (id)
);

CREATE INDEX audit_by_object ON public.audit USING btree (object, id);

CREATE OR REPLACE FUNCTION public.refuse_change_of_audit()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
BEGIN
    RAISE EXCEPTION 'the audit log only grows' USING ERRCODE = 'restrict_violation';
END $function$;

CREATE TRIGGER audit_only_grows BEFORE DELETE OR UPDATE ON public.audit FOR EACH ROW EXECUTE FUNCTION refuse_change_of_audit();

CREATE TRIGGER audit_is_not_truncated BEFORE TRUNCATE ON public.audit FOR EACH STATEMENT EXECUTE FUNCTION refuse_truncate();

CREATE OR REPLACE FUNCTION public.find_license_v1(digests bytea[], OUT as_of bigint, OUT license jsonb)
 RETURNS record
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
AS $function$
    SELECT g.newest, (
        SELECT jsonb_build_object(
            'customer', c.id, 'customer_status', c.status, 'subscription', s.id, 'family', f.id, 'token', t.id,
            'terms', l.terms, 'generation', l.generation, 'scopes', t.scopes, 'networks', t.networks,
            'not_before_at', t.not_before_at, 'expires_at', t.expires_at,
            'revoked_at', t.revoked_at, 'disabled_at', t.disabled_at, 'first_used_at', s.first_used_at)
        FROM tokens t
        JOIN token_families f ON f.id = t.family_id
        JOIN subscriptions s ON s.id = f.subscription_id
        JOIN customers c ON c.id = s.customer_id
        JOIN licenses l ON l.subscription_id = s.id
        WHERE t.digest = ANY (digests)
        LIMIT 1)
    FROM license_generation g
$function$;

CREATE OR REPLACE FUNCTION public.current_routes_v1(OUT as_of bigint, OUT document jsonb)
 RETURNS record
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
AS $function$
    SELECT g.newest, (SELECT r.document FROM route_tables r ORDER BY r.version DESC LIMIT 1)
    FROM license_generation g
$function$;

CREATE OR REPLACE FUNCTION public.current_generation_v1(OUT newest bigint, OUT pruned_to bigint)
 RETURNS record
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
AS $function$
    SELECT g.newest, g.pruned_to FROM license_generation g
$function$;

CREATE OR REPLACE FUNCTION public.changes_since_v1(after bigint)
 RETURNS TABLE(generation bigint, subject text)
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
AS $function$
    SELECT c.generation, c.subject FROM license_changes c WHERE c.generation > after ORDER BY c.generation
$function$;

CREATE INDEX customers_by_status ON public.customers USING btree (status, id);

CREATE TABLE plan_shadows (
    id              text NOT NULL,
    plan_key        text NOT NULL,
    plan_version    integer NOT NULL,
    shadow_key      text NOT NULL,
    shadow_version  integer NOT NULL,
    started_at      timestamp with time zone NOT NULL,
    stopped_at      timestamp with time zone,
    CONSTRAINT plan_shadows_pkey PRIMARY KEY (id),
    CONSTRAINT plan_shadows_id_check CHECK ((id ~ '^shd_[0-9a-z]{26}$'::text)),
    CONSTRAINT plan_shadows_check CHECK ((stopped_at >= started_at)),
    CONSTRAINT plan_shadows_plan_key_plan_version_fkey FOREIGN KEY (plan_key, plan_version) REFERENCES plan_versions(plan_key, version),
    CONSTRAINT plan_shadows_shadow_key_shadow_version_fkey FOREIGN KEY (shadow_key, shadow_version) REFERENCES plan_versions(plan_key, version)
);

CREATE UNIQUE INDEX plan_shadows_running ON public.plan_shadows USING btree (plan_key, plan_version) WHERE (stopped_at IS NULL);

CREATE INDEX subscriptions_by_trial_to ON public.subscriptions USING btree (trial_to_key, trial_to_version, id) WHERE (trial_to_key IS NOT NULL);

CREATE TABLE subscription_changes (
    id               text NOT NULL,
    subscription_id  text NOT NULL,
    at               timestamp with time zone NOT NULL,
    plan_key         text NOT NULL,
    plan_version     integer NOT NULL,
    carry            text NOT NULL,
    created_at       timestamp with time zone NOT NULL,
    canceled_at      timestamp with time zone,
    CONSTRAINT subscription_changes_pkey PRIMARY KEY (id),
    CONSTRAINT subscription_changes_id_check CHECK ((id ~ '^chg_[0-9a-z]{26}$'::text)),
    CONSTRAINT subscription_changes_carry_check CHECK ((carry = ANY (ARRAY['carry'::text, 'prorate'::text, 'reset'::text]))),
    CONSTRAINT subscription_changes_subscription_id_fkey FOREIGN KEY (subscription_id) REFERENCES subscriptions(id),
    CONSTRAINT subscription_changes_plan_key_plan_version_fkey FOREIGN KEY (plan_key, plan_version) REFERENCES plan_versions(plan_key, version)
);

CREATE INDEX subscription_changes_by_subscription ON public.subscription_changes USING btree (subscription_id, at, id);

CREATE INDEX subscription_changes_by_plan ON public.subscription_changes USING btree (plan_key, plan_version, subscription_id);

CREATE TABLE subscription_overrides (
    id               bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    subscription_id  text NOT NULL,
    document         jsonb NOT NULL,
    actor            text NOT NULL,
    reason           text NOT NULL DEFAULT ''::text,
    at               timestamp with time zone NOT NULL,
    CONSTRAINT subscription_overrides_pkey PRIMARY KEY (id),
    CONSTRAINT subscription_overrides_subscription_id_fkey FOREIGN KEY (subscription_id) REFERENCES subscriptions(id)
);

CREATE INDEX subscription_overrides_by_subscription ON public.subscription_overrides USING btree (subscription_id, id);

CREATE TABLE credit_grants (
    id               text NOT NULL,
    subscription_id  text NOT NULL,
    limit_name       text NOT NULL,
    amount           bigint NOT NULL,
    at               timestamp with time zone NOT NULL,
    expires_at       timestamp with time zone,
    actor            text NOT NULL,
    reason           text NOT NULL DEFAULT ''::text,
    CONSTRAINT credit_grants_pkey PRIMARY KEY (id),
    CONSTRAINT credit_grants_id_check CHECK ((id ~ '^grt_[0-9a-z]{26}$'::text)),
    CONSTRAINT credit_grants_amount_check CHECK ((amount > 0)),
    CONSTRAINT credit_grants_check CHECK ((expires_at > at)),
    CONSTRAINT credit_grants_subscription_id_fkey FOREIGN KEY (subscription_id) REFERENCES subscriptions(id)
);

CREATE INDEX credit_grants_by_subscription ON public.credit_grants USING btree (subscription_id, id);

CREATE INDEX tokens_by_hint ON public.tokens USING btree (hint, id);

CREATE TABLE token_last_used (
    token_id  text NOT NULL,
    at        timestamp with time zone NOT NULL,
    CONSTRAINT token_last_used_pkey PRIMARY KEY (token_id),
    CONSTRAINT token_last_used_token_id_fkey FOREIGN KEY (token_id) REFERENCES tokens(id)
);

CREATE OR REPLACE FUNCTION public.note_tokens_used_v1(ids text[], at timestamp with time zone)
 RETURNS void
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
AS $function$
    INSERT INTO token_last_used AS known (token_id, at)
    SELECT t.id, note_tokens_used_v1.at FROM tokens t WHERE t.id = ANY (ids) ORDER BY t.id
    ON CONFLICT (token_id) DO UPDATE SET at = excluded.at WHERE known.at <= excluded.at - interval '1 hour'
$function$;

CREATE TABLE leak_reports (
    id        text NOT NULL,
    at        timestamp with time zone NOT NULL,
    token_id  text,
    type      text NOT NULL,
    url       text NOT NULL,
    source    text NOT NULL,
    action    text NOT NULL,
    CONSTRAINT leak_reports_pkey PRIMARY KEY (id),
    CONSTRAINT leak_reports_id_check CHECK ((id ~ '^lek_[0-9a-z]{26}$'::text)),
    CONSTRAINT leak_reports_action_check CHECK ((action = ANY (ARRAY['revoked'::text, 'rotated'::text, 'none'::text]))),
    CONSTRAINT leak_reports_token_id_fkey FOREIGN KEY (token_id) REFERENCES tokens(id)
);

CREATE INDEX leak_reports_by_token ON public.leak_reports USING btree (token_id, id) WHERE (token_id IS NOT NULL);

CREATE TABLE admin_keys (
    id            text NOT NULL,
    name          text NOT NULL,
    role          text NOT NULL,
    digest        bytea NOT NULL,
    created_at    timestamp with time zone NOT NULL,
    revoked_at    timestamp with time zone,
    last_used_at  timestamp with time zone,
    CONSTRAINT admin_keys_pkey PRIMARY KEY (id),
    CONSTRAINT admin_keys_digest_key UNIQUE (digest),
    CONSTRAINT admin_keys_id_check CHECK ((id ~ '^key_[0-9a-z]{26}$'::text)),
    CONSTRAINT admin_keys_name_check CHECK (((length(name) >= 1) AND (length(name) <= 200))),
    CONSTRAINT admin_keys_role_check CHECK ((role = ANY (ARRAY['viewer'::text, 'issuer'::text, 'admin'::text]))),
    CONSTRAINT admin_keys_digest_check CHECK ((octet_length(digest) = 32))
);

CREATE TABLE idempotency_keys (
    actor          text NOT NULL,
    key_digest     bytea NOT NULL,
    request_hash   bytea NOT NULL,
    nonce          bytea NOT NULL,
    status         integer,
    headers        jsonb,
    body           bytea,
    secret_prefix  text,
    pepper_id      text NOT NULL,
    created_at     timestamp with time zone NOT NULL,
    expires_at     timestamp with time zone NOT NULL,
    free_at        timestamp with time zone,
    CONSTRAINT idempotency_keys_pkey PRIMARY KEY (actor, key_digest),
    CONSTRAINT idempotency_keys_key_digest_check CHECK ((octet_length(key_digest) = 32)),
    CONSTRAINT idempotency_keys_request_hash_check CHECK ((octet_length(request_hash) = 32)),
    CONSTRAINT idempotency_keys_nonce_check CHECK ((octet_length(nonce) = 16))
);

CREATE INDEX idempotency_keys_by_expiry ON public.idempotency_keys USING btree (expires_at);

CREATE INDEX audit_by_actor ON public.audit USING btree (actor, id);

CREATE INDEX audit_by_action ON public.audit USING btree (action, id);

CREATE INDEX audit_by_time ON public.audit USING btree (at, id);

CREATE TABLE audit_head (
    is_only  boolean NOT NULL DEFAULT true,
    id       bigint NOT NULL,
    hash     bytea NOT NULL,
    CONSTRAINT audit_head_pkey PRIMARY KEY (is_only),
    CONSTRAINT audit_head_is_only_check CHECK (is_only),
    CONSTRAINT audit_head_hash_check CHECK ((octet_length(hash) = 32))
);

CREATE OR REPLACE FUNCTION public.netstring(value text)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
AS $function$
    SELECT coalesce(octet_length(value) || ':' || value || ',', '-,')
$function$;

CREATE OR REPLACE FUNCTION public.audit_hash(entry audit)
 RETURNS bytea
 LANGUAGE sql
 STABLE
 SET search_path TO 'public', 'pg_temp'
AS $function$
    SELECT sha256(entry.previous_hash || convert_to(
        netstring(entry.id::text)
        || netstring(to_char(entry.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))
        || netstring(entry.actor) || netstring(entry.action) || netstring(entry.object)
        || netstring(entry.before::text) || netstring(entry.after::text)
        || netstring(entry.reason) || netstring(entry.request_id), 'UTF8'))
$function$;

CREATE OR REPLACE FUNCTION public.chain_audit()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
AS $function$
DECLARE
    head audit_head;
BEGIN
    SELECT * INTO STRICT head FROM audit_head FOR UPDATE;
    NEW.id := head.id + 1;
    NEW.previous_hash := head.hash;
    NEW.hash := audit_hash(NEW);
    UPDATE audit_head SET id = NEW.id, hash = NEW.hash;
    RETURN NEW;
END $function$;

CREATE TRIGGER audit_is_chained BEFORE INSERT ON public.audit FOR EACH ROW EXECUTE FUNCTION chain_audit();

CREATE OR REPLACE FUNCTION public.note_first_uses_v1(ids text[], instants timestamp with time zone[])
 RETURNS SETOF text
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
AS $function$
    WITH told AS (
        SELECT each.id, min(each.at) AS at FROM unnest(ids, instants) AS each (id, at) GROUP BY each.id
    ), news AS (
        SELECT s.id FROM subscriptions s JOIN told ON told.id = s.id
        WHERE s.id = ANY (ids) AND (s.first_used_at IS NULL OR s.first_used_at > told.at)
    ), held AS (
        SELECT s.id, told.at FROM subscriptions s JOIN told ON told.id = s.id
        WHERE s.id = ANY (ids) AND (s.first_used_at IS NULL OR s.first_used_at > told.at)
        ORDER BY s.id FOR NO KEY UPDATE OF s SKIP LOCKED
    ), stored AS (
        UPDATE subscriptions s SET first_used_at = held.at FROM held WHERE s.id = held.id RETURNING s.id
    )
    SELECT news.id FROM news EXCEPT SELECT stored.id FROM stored
$function$;

CREATE OR REPLACE FUNCTION public.own_token()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'public', 'pg_temp'
AS $function$
BEGIN
    SELECT f.subscription_id, s.customer_id, f.name INTO NEW.subscription_id, NEW.customer_id, NEW.name
    FROM token_families f JOIN subscriptions s ON s.id = f.subscription_id WHERE f.id = NEW.family_id;
    RETURN NEW;
END $function$;

CREATE TRIGGER tokens_are_owned BEFORE INSERT ON public.tokens FOR EACH ROW EXECUTE FUNCTION own_token();

CREATE INDEX tokens_by_customer ON public.tokens USING btree (customer_id, id);

CREATE INDEX tokens_by_subscription ON public.tokens USING btree (subscription_id, id);

CREATE INDEX tokens_by_name ON public.tokens USING btree (name, id) WHERE (name <> ''::text);

CREATE INDEX audit_by_actor_and_action ON public.audit USING btree (actor, action, id);

CREATE SEQUENCE usage_entry_ids;

CREATE TABLE usage_entries (
    id               bigint NOT NULL DEFAULT nextval('usage_entry_ids'::regclass),
    recorded_at      timestamp with time zone NOT NULL,
    bucket           bigint NOT NULL,
    customer_id      text COLLATE "C" NOT NULL,
    subscription_id  text COLLATE "C" NOT NULL,
    family_id        text COLLATE "C" NOT NULL,
    plan             text COLLATE "C" NOT NULL,
    meter            text COLLATE "C" NOT NULL,
    route            text COLLATE "C" NOT NULL,
    outcome          text COLLATE "C" NOT NULL,
    entry            text COLLATE "C" NOT NULL,
    minute_at        timestamp with time zone NOT NULL,
    quantity         bigint NOT NULL,
    reason           text NOT NULL DEFAULT ''::text,
    CONSTRAINT usage_entries_once UNIQUE (recorded_at, customer_id, bucket, subscription_id, family_id, plan, meter, outcome, entry, minute_at, route),
    CONSTRAINT usage_entries_outcome_check CHECK ((outcome = ANY (ARRAY['allowed'::text, 'overage'::text]))),
    CONSTRAINT usage_entries_entry_check CHECK ((entry = ANY (ARRAY['counted'::text, 'refund'::text, 'settlement'::text, 'report'::text, 'degraded'::text, 'correction'::text])))
) PARTITION BY RANGE (recorded_at);

CREATE INDEX usage_entries_by_id ON public.usage_entries USING btree (id);

CREATE INDEX usage_entries_by_subscription ON public.usage_entries USING btree (subscription_id, minute_at);

CREATE INDEX usage_entries_by_customer ON public.usage_entries USING btree (customer_id, minute_at);

CREATE TABLE usage_hours (
    customer_id      text COLLATE "C" NOT NULL,
    subscription_id  text COLLATE "C" NOT NULL,
    family_id        text COLLATE "C" NOT NULL,
    plan             text COLLATE "C" NOT NULL,
    meter            text COLLATE "C" NOT NULL,
    route            text COLLATE "C" NOT NULL,
    outcome          text COLLATE "C" NOT NULL,
    from_at          timestamp with time zone NOT NULL,
    quantity         bigint NOT NULL,
    CONSTRAINT usage_hours_pkey PRIMARY KEY (customer_id, from_at, subscription_id, family_id, plan, meter, route, outcome)
) PARTITION BY RANGE (from_at);

CREATE INDEX usage_hours_by_time ON public.usage_hours USING btree (from_at);

CREATE TABLE usage_days (
    customer_id      text COLLATE "C" NOT NULL,
    subscription_id  text COLLATE "C" NOT NULL,
    family_id        text COLLATE "C" NOT NULL,
    plan             text COLLATE "C" NOT NULL,
    meter            text COLLATE "C" NOT NULL,
    route            text COLLATE "C" NOT NULL,
    outcome          text COLLATE "C" NOT NULL,
    from_at          timestamp with time zone NOT NULL,
    quantity         bigint NOT NULL,
    CONSTRAINT usage_days_pkey PRIMARY KEY (customer_id, from_at, subscription_id, family_id, plan, meter, route, outcome)
) PARTITION BY RANGE (from_at);

CREATE INDEX usage_days_by_time ON public.usage_days USING btree (from_at);

CREATE TABLE usage_months (
    customer_id      text COLLATE "C" NOT NULL,
    subscription_id  text COLLATE "C" NOT NULL,
    family_id        text COLLATE "C" NOT NULL,
    plan             text COLLATE "C" NOT NULL,
    meter            text COLLATE "C" NOT NULL,
    route            text COLLATE "C" NOT NULL,
    outcome          text COLLATE "C" NOT NULL,
    from_at          timestamp with time zone NOT NULL,
    quantity         bigint NOT NULL,
    CONSTRAINT usage_months_pkey PRIMARY KEY (customer_id, from_at, subscription_id, family_id, plan, meter, route, outcome)
);

CREATE INDEX usage_months_by_time ON public.usage_months USING btree (from_at);

CREATE TABLE usage_totals (
    from_at   timestamp with time zone NOT NULL,
    plan      text COLLATE "C" NOT NULL,
    meter     text COLLATE "C" NOT NULL,
    route     text COLLATE "C" NOT NULL,
    outcome   text COLLATE "C" NOT NULL,
    quantity  numeric(40,0) NOT NULL,
    CONSTRAINT usage_totals_pkey PRIMARY KEY (from_at, plan, meter, route, outcome)
);

CREATE TABLE usage_ledger (
    is_only   boolean NOT NULL DEFAULT true,
    moved_to  timestamp with time zone,
    last_id   bigint NOT NULL,
    CONSTRAINT usage_ledger_pkey PRIMARY KEY (is_only),
    CONSTRAINT usage_ledger_is_only_check CHECK (is_only)
);

CREATE OR REPLACE FUNCTION public.make_usage_partitions_v1(instants timestamp with time zone[])
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
 SET "TimeZone" TO 'UTC'
AS $function$
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
END $function$;

CREATE OR REPLACE FUNCTION public.drop_usage_partitions_v1(entries_before timestamp with time zone, hours_before timestamp with time zone)
 RETURNS SETOF text
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
 SET "TimeZone" TO 'UTC'
 SET lock_timeout TO '2s'
AS $function$
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
END $function$;

CREATE OR REPLACE FUNCTION public.find_holder_v1(family text, subscription text, OUT license jsonb)
 RETURNS jsonb
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
AS $function$
    SELECT (find_license_v1(ARRAY[t.digest])).license
    FROM tokens t
    JOIN token_families f ON f.id = t.family_id
    WHERE f.id = family AND f.subscription_id = subscription
    LIMIT 1
$function$;

CREATE TABLE customer_references (
    customer_id  text NOT NULL,
    system       text NOT NULL,
    reference    text NOT NULL,
    updated_at   timestamp with time zone NOT NULL,
    CONSTRAINT customer_references_pkey PRIMARY KEY (customer_id, system),
    CONSTRAINT customer_references_system_check CHECK ((system ~ '^[a-z][a-z0-9_-]{0,62}$'::text)),
    CONSTRAINT customer_references_reference_check CHECK ((reference ~ '^[!-~]{1,200}$'::text)),
    CONSTRAINT customer_references_customer_id_fkey FOREIGN KEY (customer_id) REFERENCES customers(id)
);

CREATE TABLE exports (
    name        text NOT NULL,
    last_id     bigint,
    tried_id    bigint NOT NULL DEFAULT 0,
    tried_at    timestamp with time zone,
    is_paused   boolean NOT NULL DEFAULT false,
    last_error  text NOT NULL DEFAULT ''::text,
    updated_at  timestamp with time zone NOT NULL,
    CONSTRAINT exports_pkey PRIMARY KEY (name),
    CONSTRAINT exports_name_check CHECK ((name ~ '^[a-z][a-z0-9_-]{0,62}$'::text))
);

CREATE TABLE export_asides (
    export        text NOT NULL,
    entry_id      bigint NOT NULL,
    reason        text NOT NULL,
    is_uncertain  boolean NOT NULL,
    is_due        boolean NOT NULL DEFAULT false,
    put_at        timestamp with time zone NOT NULL,
    CONSTRAINT export_asides_pkey PRIMARY KEY (export, entry_id),
    CONSTRAINT export_asides_export_fkey FOREIGN KEY (export) REFERENCES exports(name)
);

CREATE INDEX export_asides_due ON public.export_asides USING btree (export, entry_id) WHERE is_due;

CREATE TABLE export_files (
    export      text NOT NULL,
    day         date NOT NULL,
    after_id    bigint NOT NULL,
    to_id       bigint NOT NULL,
    rows        bigint,
    sha256      text,
    written_at  timestamp with time zone,
    CONSTRAINT export_files_pkey PRIMARY KEY (export, day),
    CONSTRAINT export_files_export_fkey FOREIGN KEY (export) REFERENCES exports(name)
);

INSERT INTO license_generation (newest, pruned_to) VALUES (0, 0);
INSERT INTO audit_head (id, hash) VALUES (0, decode(repeat('00', 32), 'hex'));
INSERT INTO usage_ledger (last_id) VALUES (0);
SELECT make_usage_partitions_v1(ARRAY(
    SELECT now() + months * interval '1 month' FROM generate_series(-1, 3) AS months));

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA public FROM PUBLIC;
GRANT EXECUTE ON FUNCTION changes_since_v1(bigint) TO tallygate_dataplane;
GRANT EXECUTE ON FUNCTION current_generation_v1() TO tallygate_dataplane;
GRANT EXECUTE ON FUNCTION current_routes_v1() TO tallygate_dataplane;
GRANT EXECUTE ON FUNCTION find_holder_v1(text,text) TO tallygate_dataplane;
GRANT EXECUTE ON FUNCTION find_license_v1(bytea[]) TO tallygate_dataplane;
GRANT EXECUTE ON FUNCTION note_first_uses_v1(text[],timestamp with time zone[]) TO tallygate_dataplane;
GRANT EXECUTE ON FUNCTION note_tokens_used_v1(text[],timestamp with time zone) TO tallygate_dataplane;
GRANT INSERT, SELECT, UPDATE ON TABLE admin_keys TO tallygate_control;
GRANT INSERT, SELECT ON TABLE audit TO tallygate_control;
GRANT SELECT ON TABLE audit_head TO tallygate_control;
GRANT INSERT, SELECT ON TABLE credit_grants TO tallygate_control;
GRANT DELETE, INSERT, SELECT, UPDATE ON TABLE customer_references TO tallygate_control;
GRANT INSERT, SELECT, UPDATE ON TABLE customers TO tallygate_control;
GRANT DELETE, INSERT, SELECT, UPDATE ON TABLE export_asides TO tallygate_control;
GRANT INSERT, SELECT, UPDATE ON TABLE export_files TO tallygate_control;
GRANT INSERT, SELECT, UPDATE ON TABLE exports TO tallygate_control;
GRANT DELETE, INSERT, SELECT, UPDATE ON TABLE idempotency_keys TO tallygate_control;
GRANT INSERT, SELECT ON TABLE leak_reports TO tallygate_control;
GRANT DELETE, INSERT, SELECT ON TABLE license_changes TO tallygate_control;
GRANT SELECT, UPDATE ON TABLE license_generation TO tallygate_control;
GRANT INSERT, SELECT, UPDATE ON TABLE licenses TO tallygate_control;
GRANT INSERT, SELECT, UPDATE ON TABLE plan_shadows TO tallygate_control;
GRANT INSERT, SELECT, UPDATE ON TABLE plan_versions TO tallygate_control;
GRANT INSERT, SELECT, UPDATE ON TABLE plans TO tallygate_control;
GRANT INSERT, SELECT, UPDATE ON TABLE route_tables TO tallygate_control;
GRANT SELECT ON TABLE schema_migrations TO tallygate_control;
GRANT INSERT, SELECT, UPDATE ON TABLE subscription_changes TO tallygate_control;
GRANT INSERT, SELECT ON TABLE subscription_overrides TO tallygate_control;
GRANT INSERT, SELECT, UPDATE ON TABLE subscriptions TO tallygate_control;
GRANT INSERT, SELECT, UPDATE ON TABLE token_families TO tallygate_control;
GRANT INSERT, SELECT, UPDATE ON TABLE token_last_used TO tallygate_control;
GRANT INSERT, SELECT, UPDATE ON TABLE tokens TO tallygate_control;
GRANT INSERT, SELECT, UPDATE ON TABLE usage_days TO tallygate_control;
GRANT INSERT, SELECT ON TABLE usage_entries TO tallygate_control;
GRANT INSERT, SELECT, UPDATE ON TABLE usage_hours TO tallygate_control;
GRANT SELECT, UPDATE ON TABLE usage_ledger TO tallygate_control;
GRANT INSERT, SELECT, UPDATE ON TABLE usage_months TO tallygate_control;
GRANT INSERT, SELECT, UPDATE ON TABLE usage_totals TO tallygate_control;
GRANT USAGE ON SEQUENCE usage_entry_ids TO tallygate_control;
GRANT EXECUTE ON FUNCTION changes_since_v1(bigint) TO tallygate_control;
GRANT EXECUTE ON FUNCTION current_generation_v1() TO tallygate_control;
GRANT EXECUTE ON FUNCTION current_routes_v1() TO tallygate_control;
GRANT EXECUTE ON FUNCTION drop_usage_partitions_v1(timestamp with time zone,timestamp with time zone) TO tallygate_control;
GRANT EXECUTE ON FUNCTION find_holder_v1(text,text) TO tallygate_control;
GRANT EXECUTE ON FUNCTION find_license_v1(bytea[]) TO tallygate_control;
GRANT EXECUTE ON FUNCTION make_usage_partitions_v1(timestamp with time zone[]) TO tallygate_control;
GRANT EXECUTE ON FUNCTION note_first_uses_v1(text[],timestamp with time zone[]) TO tallygate_control;
GRANT EXECUTE ON FUNCTION note_tokens_used_v1(text[],timestamp with time zone) TO tallygate_control;
GRANT EXECUTE ON FUNCTION prune_changes(interval) TO tallygate_control;
GRANT EXECUTE ON FUNCTION record_change(text) TO tallygate_control;
