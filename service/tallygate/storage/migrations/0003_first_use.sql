-- When a subscription was first used, durable: a trial that begins with the first request ends for the control plane
-- too, and a lost counter store begins none anew. The data plane tells it; the row is not a part of the compiled terms.

ALTER TABLE subscriptions ADD COLUMN first_used_at timestamptz;

-- As in 0001, with the instant.
CREATE OR REPLACE FUNCTION find_license_v1(digests bytea[], OUT as_of bigint, OUT license jsonb)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $$
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
$$;

-- Note when subscriptions were first used, `instants` in the order of `ids`; the least instant ever told stands.
-- Waits for nobody: returns those that somebody else is changing just now, to be told again.
CREATE FUNCTION note_first_uses_v1(ids text[], instants timestamptz[]) RETURNS SETOF text
LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT AS $$
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
$$;

REVOKE ALL ON FUNCTION note_first_uses_v1 FROM PUBLIC;
GRANT EXECUTE ON FUNCTION note_first_uses_v1 TO tallygate_dataplane, tallygate_control;
