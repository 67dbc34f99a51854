-- The owners of the tokens that were there before 0004, the indexes that lists are read off, and the guarantee that an
-- owner is always the right one. In this order tokens can be looked up all the while, but for a moment at the end.
-- Guarantees kept by the database itself:
--   * a token's subscription and name are those of its family, and its customer is that of the subscription:
--     a statement that would make them differ is refused, whichever of the three tables it is on.

UPDATE tokens t SET subscription_id = f.subscription_id, customer_id = s.customer_id, name = f.name
FROM token_families f JOIN subscriptions s ON s.id = f.subscription_id
WHERE f.id = t.family_id
    AND (t.subscription_id, t.customer_id, t.name) IS DISTINCT FROM (f.subscription_id, s.customer_id, f.name);

CREATE INDEX tokens_by_customer ON tokens (customer_id, id);
CREATE INDEX tokens_by_subscription ON tokens (subscription_id, id);
CREATE INDEX tokens_by_name ON tokens (name, id) WHERE name <> '';
CREATE UNIQUE INDEX subscriptions_owner ON subscriptions (id, customer_id);
CREATE UNIQUE INDEX token_families_owner ON token_families (id, subscription_id, name);
-- An actor's entries of one action: a program that only issues has a million entries of another.
CREATE INDEX audit_by_actor_and_action ON audit (actor, action, id);

ALTER TABLE tokens ADD CONSTRAINT tokens_belong_to_family
    FOREIGN KEY (family_id, subscription_id, name) REFERENCES token_families (id, subscription_id, name);
ALTER TABLE tokens ADD CONSTRAINT tokens_belong_to_customer
    FOREIGN KEY (subscription_id, customer_id) REFERENCES subscriptions (id, customer_id);

-- What is left shuts readers out for a moment. Taken in the order in which find_license_v1 takes them, so that the two
-- never wait for each other.
LOCK TABLE tokens, token_families, subscriptions IN ACCESS EXCLUSIVE MODE;
ALTER TABLE token_families ADD CONSTRAINT token_families_owner UNIQUE USING INDEX token_families_owner;
ALTER TABLE subscriptions ADD CONSTRAINT subscriptions_owner UNIQUE USING INDEX subscriptions_owner;
ALTER TABLE tokens DROP CONSTRAINT tokens_family_id_fkey;  -- tokens_belong_to_family says it
-- A key with a null in it is not looked at, so there must be none.
ALTER TABLE tokens ALTER COLUMN subscription_id SET NOT NULL, ALTER COLUMN customer_id SET NOT NULL,
    ALTER COLUMN name SET NOT NULL;

-- Lists of tokens were read off these.
DROP INDEX token_families_by_subscription;
DROP INDEX token_families_by_name;
