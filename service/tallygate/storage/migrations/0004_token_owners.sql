-- Whose a token is stands in its own row, so that a list of a customer's, a subscription's or a name's tokens is read
-- off one index: a page costs the same among ten tokens as among a million. Here the columns appear, and the database
-- fills them for every token that is added; 0005 fills those that are there. Apart, so that nobody waits for that.

ALTER TABLE tokens ADD COLUMN subscription_id text;
ALTER TABLE tokens ADD COLUMN customer_id text;
ALTER TABLE tokens ADD COLUMN name text;

-- A new token is its family's, whatever the statement says; of a family that is not there it has no owner and is refused.
CREATE FUNCTION own_token() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    SELECT f.subscription_id, s.customer_id, f.name INTO NEW.subscription_id, NEW.customer_id, NEW.name
    FROM token_families f JOIN subscriptions s ON s.id = f.subscription_id WHERE f.id = NEW.family_id;
    RETURN NEW;
END $$;
CREATE TRIGGER tokens_are_owned BEFORE INSERT ON tokens FOR EACH ROW EXECUTE FUNCTION own_token();

REVOKE ALL ON FUNCTION own_token FROM PUBLIC;
