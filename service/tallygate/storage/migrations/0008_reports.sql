-- Usage may be reported by the ids that upstreams are told: the license of a family, whichever of its tokens it is read
-- by. Docs: docs/outcomes.md.

CREATE FUNCTION find_holder_v1(family text, subscription text, OUT license jsonb)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $$
    SELECT (find_license_v1(ARRAY[t.digest])).license
    FROM tokens t
    JOIN token_families f ON f.id = t.family_id
    WHERE f.id = family AND f.subscription_id = subscription
    LIMIT 1
$$;

REVOKE ALL ON FUNCTION find_holder_v1 FROM PUBLIC;
GRANT EXECUTE ON FUNCTION find_holder_v1 TO tallygate_dataplane, tallygate_control;
