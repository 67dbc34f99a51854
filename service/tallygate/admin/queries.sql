-- Every statement of the control plane. $n are described in order; instants are timestamptz. A filter that may be
-- left out is a statement of its own wherever the table is big, so that each is answered from an index. Where a filter
-- matches much, a page is asked for as a range of rows, `(status, id) > ($1, $2) AND status <= $1`: with `status = $1`
-- the planner would rather walk the primary key and throw rows away.

-- Customers ----------------------------------------------------------------------------------------------------

-- name: insert_customer
-- Inputs: id, key, name, now. Adds an active customer; a taken key violates customers_key_key.
INSERT INTO customers (id, key, name, created_at, updated_at) VALUES ($1, $2, $3, $4, $4);

-- name: customer
-- Inputs: id. Output: the customer, or nothing.
SELECT id, key, name, status, created_at, updated_at, past_due_at, revision FROM customers WHERE id = $1;

-- name: customer_by_key
-- Inputs: key. Output: the customer, or nothing.
SELECT id, key, name, status, created_at, updated_at, past_due_at, revision FROM customers WHERE key = $1;

-- name: lock_customer
-- Inputs: id. Nobody else changes the customer, or gives them a subscription, until we are done.
SELECT id FROM customers WHERE id = $1 FOR NO KEY UPDATE;

-- name: customers
-- Inputs: id to start after, rows at most. Output: customers in order of creation.
SELECT id, key, name, status, created_at, updated_at, past_due_at, revision
FROM customers WHERE id > $1 ORDER BY id LIMIT $2;

-- name: customers_by_status
-- Inputs: status, id to start after, rows at most. Output: customers in order of creation.
SELECT id, key, name, status, created_at, updated_at, past_due_at, revision
FROM customers WHERE (status, id) > ($1, $2) AND status <= $1 ORDER BY status, id LIMIT $3;

-- name: references_of_customer
-- Inputs: customer id. Output: what other systems call them, by system.
SELECT customer_id AS customer, system, reference, updated_at FROM customer_references WHERE customer_id = $1
ORDER BY system;

-- name: put_reference
-- Inputs: customer id, system, reference, now.
INSERT INTO customer_references (customer_id, system, reference, updated_at) VALUES ($1, $2, $3, $4)
ON CONFLICT (customer_id, system) DO UPDATE SET reference = excluded.reference, updated_at = excluded.updated_at;

-- name: remove_reference
-- Inputs: customer id, system.
DELETE FROM customer_references WHERE customer_id = $1 AND system = $2;

-- name: set_customer_status
-- Inputs: id, status, since when a payment is due or null, now.
UPDATE customers SET status = $2, past_due_at = $3, updated_at = $4, revision = revision + 1 WHERE id = $1;

-- name: rename_customer
-- Inputs: id, name, now.
UPDATE customers SET name = $2, updated_at = $3, revision = revision + 1 WHERE id = $1;

-- Plans --------------------------------------------------------------------------------------------------------

-- name: lock_plans
-- Publishing is one at a time, so that two appliers cannot both make version n.
SELECT pg_advisory_xact_lock(hashtextextended('tallygate:plans', 0));

-- name: insert_plan
-- Inputs: key, now. Adds the plan unless it is there.
INSERT INTO plans (key, created_at) VALUES ($1, $2) ON CONFLICT DO NOTHING;

-- name: publish_version
-- Inputs: key, version, name, document (json), now. Adds a published version, unchangeable from here on.
INSERT INTO plan_versions (plan_key, version, name, document, created_at, published_at)
VALUES ($1, $2, $3, $4::jsonb, $5, $5);

-- name: plan_version
-- Inputs: key, version. Output: the version, or nothing.
SELECT v.*, w.shadow_key || '@' || w.shadow_version AS shadow
FROM plan_versions v LEFT JOIN plan_shadows w
    ON w.plan_key = v.plan_key AND w.plan_version = v.version AND w.stopped_at IS NULL
WHERE v.plan_key = $1 AND v.version = $2 AND v.published_at IS NOT NULL;

-- name: newest_version
-- Inputs: key. Output: the newest version, whatever its state, or nothing.
SELECT v.*, w.shadow_key || '@' || w.shadow_version AS shadow
FROM plan_versions v LEFT JOIN plan_shadows w
    ON w.plan_key = v.plan_key AND w.plan_version = v.version AND w.stopped_at IS NULL
WHERE v.plan_key = $1 AND v.published_at IS NOT NULL ORDER BY v.version DESC LIMIT 1;

-- name: newest_version_in_shadow
-- Inputs: key. Output: the newest version with a limit in shadow, or nothing.
SELECT v.*, w.shadow_key || '@' || w.shadow_version AS shadow
FROM plan_versions v LEFT JOIN plan_shadows w
    ON w.plan_key = v.plan_key AND w.plan_version = v.version AND w.stopped_at IS NULL
WHERE v.plan_key = $1 AND v.published_at IS NOT NULL AND v.document -> 'limits' @> '[{"mode": "shadow"}]'
ORDER BY v.version DESC LIMIT 1;

-- name: newest_offered_version
-- Inputs: key. Output: the newest version that takes new subscriptions, or nothing.
SELECT v.*, w.shadow_key || '@' || w.shadow_version AS shadow
FROM plan_versions v LEFT JOIN plan_shadows w
    ON w.plan_key = v.plan_key AND w.plan_version = v.version AND w.stopped_at IS NULL
WHERE v.plan_key = $1 AND v.published_at IS NOT NULL AND v.deprecated_at IS NULL ORDER BY v.version DESC LIMIT 1;

-- name: lock_version
-- Inputs: key, version. Nobody else changes its state, or pins it, until we are done.
SELECT version FROM plan_versions WHERE plan_key = $1 AND version = $2 FOR NO KEY UPDATE;

-- name: hold_version
-- Inputs: key, version. Nobody deprecates or retires it until we are done; others may hold it too.
SELECT version FROM plan_versions WHERE plan_key = $1 AND version = $2 FOR SHARE;

-- name: plan_versions
-- Inputs: key and version to start after, rows at most. Output: versions by key, newest first.
SELECT v.*, w.shadow_key || '@' || w.shadow_version AS shadow
FROM plan_versions v LEFT JOIN plan_shadows w
    ON w.plan_key = v.plan_key AND w.plan_version = v.version AND w.stopped_at IS NULL
WHERE v.published_at IS NOT NULL AND v.plan_key >= $1 AND (v.plan_key > $1 OR v.version < $2)
ORDER BY v.plan_key, v.version DESC LIMIT $3;

-- name: versions_of_plan
-- Inputs: key, version to start below, rows at most. Output: its versions, newest first.
SELECT v.*, w.shadow_key || '@' || w.shadow_version AS shadow
FROM plan_versions v LEFT JOIN plan_shadows w
    ON w.plan_key = v.plan_key AND w.plan_version = v.version AND w.stopped_at IS NULL
WHERE v.plan_key = $1 AND v.published_at IS NOT NULL AND v.version < $2 ORDER BY v.version DESC LIMIT $3;

-- name: set_version_state
-- Inputs: key, version, deprecated or null, retired or null.
UPDATE plan_versions SET deprecated_at = $3, retired_at = $4, revision = revision + 1
WHERE plan_key = $1 AND version = $2;

-- name: pins
-- Inputs: plan key, now. Output: version and the number of live subscriptions that are or will be on it. A
-- subscription pins the version of its newest change in force (before any: the one it was made on, and the one
-- its trial falls back to) and those of changes to come.
WITH pinned AS (
    SELECT s.id, s.plan_version AS version FROM subscriptions s
    WHERE s.plan_key = $1 AND (s.ends_at IS NULL OR s.ends_at > $2) AND NOT EXISTS (
        SELECT FROM subscription_changes c WHERE c.subscription_id = s.id AND c.canceled_at IS NULL AND c.at <= $2)
    UNION
    SELECT s.id, s.trial_to_version FROM subscriptions s
    WHERE s.trial_to_key = $1 AND (s.ends_at IS NULL OR s.ends_at > $2) AND NOT EXISTS (
        SELECT FROM subscription_changes c WHERE c.subscription_id = s.id AND c.canceled_at IS NULL AND c.at <= $2)
    UNION
    SELECT s.id, c.plan_version FROM subscription_changes c JOIN subscriptions s ON s.id = c.subscription_id
    WHERE c.plan_key = $1 AND c.canceled_at IS NULL AND (s.ends_at IS NULL OR s.ends_at > $2) AND NOT EXISTS (
        SELECT FROM subscription_changes later
        WHERE later.subscription_id = c.subscription_id AND later.canceled_at IS NULL AND later.at <= $2
            AND (later.at, later.id) > (c.at, c.id))
)
SELECT version, count(*) AS subscriptions FROM pinned GROUP BY version ORDER BY version;

-- name: subscriptions_on_version
-- Inputs: plan key, version, now, id to start after, rows at most. Output: ids of live subscriptions that may be on
-- it now (its license knows whether a trial has ended), or will be by a change to come, in order.
SELECT id FROM (
    (SELECT s.id FROM subscriptions s
    WHERE s.plan_key = $1 AND s.plan_version = $2 AND s.id > $4 AND (s.ends_at IS NULL OR s.ends_at > $3)
        AND NOT EXISTS (SELECT FROM subscription_changes c
            WHERE c.subscription_id = s.id AND c.canceled_at IS NULL AND c.at <= $3)
    ORDER BY s.id LIMIT $5)
    UNION
    (SELECT s.id FROM subscriptions s
    WHERE s.trial_to_key = $1 AND s.trial_to_version = $2 AND s.id > $4 AND (s.ends_at IS NULL OR s.ends_at > $3)
        AND NOT EXISTS (SELECT FROM subscription_changes c
            WHERE c.subscription_id = s.id AND c.canceled_at IS NULL AND c.at <= $3)
    ORDER BY s.id LIMIT $5)
    UNION
    (SELECT s.id FROM subscription_changes c JOIN subscriptions s ON s.id = c.subscription_id
    WHERE c.plan_key = $1 AND c.plan_version = $2 AND c.subscription_id > $4 AND c.canceled_at IS NULL
        AND (s.ends_at IS NULL OR s.ends_at > $3)
        AND NOT EXISTS (SELECT FROM subscription_changes later
            WHERE later.subscription_id = c.subscription_id AND later.canceled_at IS NULL AND later.at <= $3
                AND (later.at, later.id) > (c.at, c.id))
    ORDER BY c.subscription_id LIMIT $5)
) found ORDER BY id LIMIT $5;

-- name: insert_shadow
-- Inputs: id, plan key and version, shadow key and version, now. A second one running violates plan_shadows_running.
INSERT INTO plan_shadows (id, plan_key, plan_version, shadow_key, shadow_version, started_at)
VALUES ($1, $2, $3, $4, $5, $6);

-- name: stop_shadow
-- Inputs: id, now.
UPDATE plan_shadows SET stopped_at = $2 WHERE id = $1;

-- name: running_shadow
-- Inputs: plan key, version. Output: what is tried beside it now, or nothing.
SELECT * FROM plan_shadows WHERE plan_key = $1 AND plan_version = $2 AND stopped_at IS NULL;

-- name: running_shadows
-- Output: every shadow that runs.
SELECT * FROM plan_shadows WHERE stopped_at IS NULL ORDER BY id;

-- name: shadows
-- Inputs: id to start after, rows at most. Output: shadows in order of their start, stopped ones too.
SELECT * FROM plan_shadows WHERE id > $1 ORDER BY id LIMIT $2;

-- name: current_routes
-- Output: version and document of the route table in force, or nothing.
SELECT version, document FROM route_tables ORDER BY version DESC LIMIT 1;

-- name: insert_routes
-- Inputs: version, document (json), now.
INSERT INTO route_tables (version, document, created_at) VALUES ($1, $2::jsonb, $3);

-- Subscriptions ------------------------------------------------------------------------------------------------

-- name: insert_subscription
-- Inputs: id, customer id, plan key and version, environment, anchor, time zone, start, key and version the trial
-- falls back to or nulls, now. Overlapping another violates subscriptions_do_not_overlap.
INSERT INTO subscriptions (id, customer_id, plan_key, plan_version, environment, anchor_at, timezone, starts_at,
                           trial_to_key, trial_to_version, created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11);

-- name: overlapping_subscription
-- Inputs: customer id, environment, start, end or null, id that is not looked for. Output: the id of one that
-- overlaps, or nothing.
SELECT id FROM subscriptions
WHERE customer_id = $1 AND environment = $2 AND tstzrange(starts_at, ends_at) && tstzrange($3, $4) AND id <> $5
ORDER BY id LIMIT 1;

-- name: lock_subscriptions
-- Inputs: ids. Locks them, in order, against concurrent changes. Output: those that exist.
SELECT id FROM subscriptions WHERE id = ANY ($1::text[]) ORDER BY id FOR NO KEY UPDATE;

-- name: subscriptions_by_id
-- Inputs: ids. Output: the subscriptions with their customer's payment state and compiled terms, in order.
SELECT s.*, c.past_due_at, l.terms FROM subscriptions s
JOIN customers c ON c.id = s.customer_id LEFT JOIN licenses l ON l.subscription_id = s.id
WHERE s.id = ANY ($1::text[]) ORDER BY s.id;

-- name: subscription_ids
-- Inputs: id to start after, rows at most. Output: ids in order of creation.
SELECT id FROM subscriptions WHERE id > $1 ORDER BY id LIMIT $2;

-- name: subscription_ids_of_customer
-- Inputs: customer id, id to start after, rows at most. Output: ids in order of creation.
SELECT id FROM subscriptions WHERE (customer_id, id) > ($1, $2) AND customer_id <= $1
ORDER BY customer_id, id LIMIT $3;

-- name: subscription_ids_of_plan
-- Inputs: plan key, version, id to start after, rows at most. Output: ids of those made on it, in order of creation.
SELECT id FROM subscriptions
WHERE (plan_key, plan_version, id) > ($1, $2, $3) AND (plan_key, plan_version) <= ($1, $2)
ORDER BY plan_key, plan_version, id LIMIT $4;

-- name: live_subscription_ids_of_customer
-- Inputs: customer id, now. Output: ids of those that run or will, in order; by the index that keeps them apart.
SELECT id FROM subscriptions WHERE customer_id = $1 AND tstzrange(starts_at, ends_at) && tstzrange($2, NULL)
ORDER BY id;

-- name: end_subscription
-- Inputs: id, end or null, now. Overlapping another violates subscriptions_do_not_overlap.
UPDATE subscriptions SET ends_at = $2, updated_at = $3, revision = revision + 1 WHERE id = $1;

-- name: suspend_subscription
-- Inputs: id, since or null, now.
UPDATE subscriptions SET suspended_at = $2, updated_at = $3, revision = revision + 1 WHERE id = $1;

-- name: touch_subscriptions
-- Inputs: ids, now. What hangs on them has changed.
UPDATE subscriptions SET updated_at = $2, revision = revision + 1 WHERE id = ANY ($1::text[]);

-- name: insert_change
-- Inputs: id, subscription id, instant, plan key and version, carry, now.
INSERT INTO subscription_changes (id, subscription_id, at, plan_key, plan_version, carry, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7);

-- name: change_subscription
-- Inputs: id of a change. Output: the subscription it belongs to, or nothing.
SELECT subscription_id FROM subscription_changes WHERE id = $1;

-- name: cancel_change
-- Inputs: id, now.
UPDATE subscription_changes SET canceled_at = $2 WHERE id = $1;

-- name: changes
-- Inputs: subscription ids. Output: all their changes in the order they take force.
SELECT * FROM subscription_changes WHERE subscription_id = ANY ($1::text[]) ORDER BY subscription_id, at, id;

-- name: insert_override
-- Inputs: subscription id, document (json), actor, reason, now.
INSERT INTO subscription_overrides (subscription_id, document, actor, reason, at) VALUES ($1, $2::jsonb, $3, $4, $5);

-- name: overrides
-- Inputs: subscription ids. Output: the overrides that count.
SELECT o.* FROM unnest($1::text[]) AS wanted (id) CROSS JOIN LATERAL (
    SELECT subscription_id, document FROM subscription_overrides
    WHERE subscription_id = wanted.id ORDER BY id DESC LIMIT 1) o;

-- name: overridden_at
-- Inputs: subscription ids. Output: when those that have overrides, or had, were given the last.
SELECT o.* FROM unnest($1::text[]) AS wanted (id) CROSS JOIN LATERAL (
    SELECT subscription_id, at FROM subscription_overrides
    WHERE subscription_id = wanted.id ORDER BY id DESC LIMIT 1) o;

-- name: insert_credits
-- Inputs: id, subscription id, limit, amount, from, until or null, actor, reason.
INSERT INTO credit_grants (id, subscription_id, limit_name, amount, at, expires_at, actor, reason)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8);

-- name: credits
-- Inputs: subscription ids. Output: all their grants, oldest first.
SELECT * FROM credit_grants WHERE subscription_id = ANY ($1::text[]) ORDER BY subscription_id, id;

-- name: terms
-- Inputs: subscription id. Output: its compiled terms, or nothing.
SELECT terms FROM licenses WHERE subscription_id = $1;

-- name: put_license
-- Inputs: subscription id, terms (json), generation.
INSERT INTO licenses (subscription_id, terms, generation) VALUES ($1, $2::jsonb, $3)
ON CONFLICT (subscription_id) DO UPDATE SET terms = excluded.terms, generation = excluded.generation;

-- Tokens -------------------------------------------------------------------------------------------------------

-- name: insert_family
-- Inputs: id, subscription id, name, now.
INSERT INTO token_families (id, subscription_id, name, created_at) VALUES ($1, $2, $3, $4);

-- name: insert_token
-- Inputs: id, family id, digest, pepper id, hint, scopes or null, networks, not before, expiry, now.
INSERT INTO tokens (id, family_id, digest, pepper_id, hint, scopes, networks, not_before_at, expires_at, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10);

-- name: lock_tokens
-- Inputs: ids. Locks them, in order, against concurrent changes. Output: those that exist.
SELECT id FROM tokens WHERE id = ANY ($1::text[]) ORDER BY id FOR NO KEY UPDATE;

-- name: tokens_by_id
-- Inputs: ids. Output: the tokens with the environment of their subscription and their last use, in order.
SELECT t.*, s.environment, u.at AS last_used_at FROM tokens t JOIN subscriptions s ON s.id = t.subscription_id
LEFT JOIN token_last_used u ON u.token_id = t.id
WHERE t.id = ANY ($1::text[]) ORDER BY t.id;

-- name: token_ids_by_digest
-- Inputs: digests (bytea[]). Output: the ids of the tokens stored under them, and the digest of each.
SELECT id, digest FROM tokens WHERE digest = ANY ($1::bytea[]);

-- name: token_ids
-- Inputs: id to start after, rows at most. Output: ids in order of creation.
SELECT id FROM tokens WHERE id > $1 ORDER BY id LIMIT $2;

-- name: token_ids_of_family
-- Inputs: family id, id to start after, rows at most. Output: ids in order of creation.
SELECT id FROM tokens WHERE (family_id, id) > ($1, $2) AND family_id <= $1 ORDER BY family_id, id LIMIT $3;

-- name: token_ids_of_subscription
-- Inputs: subscription id, id to start after, rows at most. Output: ids in order of creation.
SELECT id FROM tokens WHERE (subscription_id, id) > ($1, $2) AND subscription_id <= $1
ORDER BY subscription_id, id LIMIT $3;

-- name: token_ids_of_customer
-- Inputs: customer id, id to start after, rows at most. Output: ids in order of creation.
SELECT id FROM tokens WHERE (customer_id, id) > ($1, $2) AND customer_id <= $1 ORDER BY customer_id, id LIMIT $3;

-- name: token_ids_by_hint
-- Inputs: last four characters, id to start after, rows at most. Output: ids in order of creation.
SELECT id FROM tokens WHERE hint = $1 AND id > $2 ORDER BY id LIMIT $3;

-- name: token_ids_by_name
-- Inputs: name, id to start after, rows at most. Output: ids in order of creation.
SELECT id FROM tokens WHERE name <> '' AND (name, id) > ($1, $2) AND name <= $1 ORDER BY name, id LIMIT $3;

-- name: revoke_tokens
-- Inputs: ids, instant (may lie ahead). An earlier revocation stands.
UPDATE tokens SET revoked_at = least(coalesce(revoked_at, $2), $2), revision = revision + 1
WHERE id = ANY ($1::text[]);

-- name: mark_leaked
-- Inputs: ids, now. The first time stands.
UPDATE tokens SET leaked_at = coalesce(leaked_at, $2) WHERE id = ANY ($1::text[]);

-- name: set_token_disabled
-- Inputs: id, since or null.
UPDATE tokens SET disabled_at = $2, revision = revision + 1 WHERE id = $1;

-- name: update_token
-- Inputs: id, scopes or null, networks, expiry or null.
UPDATE tokens SET scopes = $2, networks = $3, expires_at = $4, revision = revision + 1 WHERE id = $1;

-- name: insert_leak
-- Inputs: id, now, token id or null, type, url, source, action.
INSERT INTO leak_reports (id, at, token_id, type, url, source, action) VALUES ($1, $2, $3, $4, $5, $6, $7);

-- Administration -----------------------------------------------------------------------------------------------

-- name: insert_admin_key
-- Inputs: id, name, role, digest, now.
INSERT INTO admin_keys (id, name, role, digest, created_at) VALUES ($1, $2, $3, $4, $5);

-- name: admin_key
-- Inputs: id. Output: the key, or nothing.
SELECT id, name, role, created_at, revoked_at, last_used_at FROM admin_keys WHERE id = $1;

-- name: admin_key_by_digest
-- Inputs: digest. Output: the key, or nothing.
SELECT id, name, role, created_at, revoked_at, last_used_at FROM admin_keys WHERE digest = $1;

-- name: admin_keys
-- Inputs: id to start after, rows at most. Output: keys in order of creation.
SELECT id, name, role, created_at, revoked_at, last_used_at FROM admin_keys WHERE id > $1 ORDER BY id LIMIT $2;

-- name: revoke_admin_key
-- Inputs: id, now. An earlier revocation stands.
UPDATE admin_keys SET revoked_at = coalesce(revoked_at, $2) WHERE id = $1;

-- name: note_admin_key_used
-- Inputs: id, now.
UPDATE admin_keys SET last_used_at = $2 WHERE id = $1;

-- name: claim_answer
-- Inputs: actor, key's digest, request hash, nonce, pepper id, now, expiry, when others may take over or null. Takes the
-- key unless an answer stands under it or the same request is under way, waiting for whoever is about to put an answer
-- there. Output: a row if it was taken.
INSERT INTO idempotency_keys AS standing
    (actor, key_digest, request_hash, nonce, pepper_id, created_at, expires_at, free_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (actor, key_digest) DO UPDATE SET request_hash = excluded.request_hash, nonce = excluded.nonce,
    pepper_id = excluded.pepper_id,
    status = NULL, headers = NULL, body = NULL, secret_prefix = NULL,
    created_at = excluded.created_at, expires_at = excluded.expires_at, free_at = excluded.free_at
WHERE standing.expires_at <= excluded.created_at OR (standing.status IS NULL
    AND standing.free_at <= excluded.created_at AND standing.request_hash = excluded.request_hash)
RETURNING actor;

-- name: answer
-- Inputs: actor, key's digest. Output: what stands under it; without a status its request is under way.
SELECT request_hash, nonce, pepper_id, status, headers, body, secret_prefix, free_at FROM idempotency_keys
WHERE actor = $1 AND key_digest = $2;

-- name: put_answer
-- Inputs: actor, key's digest, status, headers (json), body, what comes before a secret or null, nonce. Nothing happens
-- when somebody else has taken the key since.
UPDATE idempotency_keys SET status = $3, headers = $4::jsonb, body = $5, secret_prefix = $6, free_at = NULL
WHERE actor = $1 AND key_digest = $2 AND nonce = $7;

-- name: free_answer
-- Inputs: actor, key's digest, nonce. Takes away what was claimed with this nonce and has no answer.
DELETE FROM idempotency_keys WHERE actor = $1 AND key_digest = $2 AND nonce = $3 AND status IS NULL;

-- name: prune_answers
-- Inputs: now. Forgets some answers that have expired; those somebody is at are left.
DELETE FROM idempotency_keys WHERE (actor, key_digest) IN (
    SELECT actor, key_digest FROM idempotency_keys WHERE expires_at <= $1
    ORDER BY expires_at LIMIT 20 FOR UPDATE SKIP LOCKED);

-- Changes and audit --------------------------------------------------------------------------------------------

-- name: record_change
-- Inputs: subject. Output: the generation of this change; serialises writers until they commit.
SELECT record_change($1);

-- name: insert_audit
-- Inputs: now, actor, action, object, before (json) or null, after (json) or null, reason, request id.
-- The database numbers and chains it.
INSERT INTO audit (at, actor, action, object, before, after, reason, request_id)
VALUES ($1, $2, $3, $4, $5::jsonb, $6::jsonb, $7, $8);

-- name: audit
-- Inputs: number to start after, rows at most. Output: entries, oldest first.
SELECT * FROM audit WHERE id > $1 ORDER BY id LIMIT $2;

-- name: audit_of_object
-- Inputs: object, number to start after, rows at most, actor or null, action or null. Goes through the object's own
-- entries until it has a page: as many as there were acts on it, however many tokens its customer has.
SELECT * FROM audit WHERE object = $1 AND id > $2
    AND ($4::text IS NULL OR actor = $4) AND ($5::text IS NULL OR action = $5)
ORDER BY id LIMIT $3;

-- name: audit_of_actor
-- Inputs: actor, number to start after, rows at most.
SELECT * FROM audit WHERE (actor, id) > ($1, $2) AND actor <= $1 ORDER BY actor, id LIMIT $3;

-- name: audit_of_actor_and_action
-- Inputs: actor, number to start after, rows at most, action.
SELECT * FROM audit WHERE actor = $1 AND (action, id) > ($4, $2) AND action <= $4 ORDER BY action, id LIMIT $3;

-- name: audit_of_action
-- Inputs: action, number to start after, rows at most.
SELECT * FROM audit WHERE (action, id) > ($1, $2) AND action <= $1 ORDER BY action, id LIMIT $3;

-- name: audit_since
-- Inputs: instant. Output: the number of the first entry that is not older, or nothing.
SELECT id FROM audit WHERE at >= $1 ORDER BY at, id LIMIT 1;

-- name: audit_chain
-- Inputs: number to start after, rows at most. Output, in one snapshot: the head (nulls when somebody took it away)
-- beside each entry; one row with a null id when there are no more.
SELECT h.id AS head_id, h.hash AS head_hash, a.* FROM (SELECT) one LEFT JOIN audit_head h ON true LEFT JOIN LATERAL (
    SELECT * FROM audit WHERE id > $1 ORDER BY id LIMIT $2) a ON true
ORDER BY a.id;

-- name: prune_changes
-- In: $1 for how long changes stay in the log, for listeners that were away.
SELECT prune_changes($1);

-- name: tokens_by_state
-- In: $1 now. Out: state, tokens.
SELECT CASE WHEN revoked_at IS NOT NULL AND revoked_at <= $1 THEN 'revoked'
    WHEN disabled_at IS NOT NULL AND disabled_at <= $1 THEN 'disabled'
    WHEN expires_at <= $1 THEN 'expired'
    WHEN not_before_at > $1 THEN 'not_yet_valid'
    ELSE 'active' END AS state, count(*) AS tokens
FROM tokens GROUP BY 1;
