"""Whose a token is: written in its row, filled in by the database, and never other than what its family says."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest
from support.servers import Database

from tallygate.devservers.postgres import PostgresServer
from tallygate.storage.migrate import migrate, shipped
from tallygate.storage.postgres import Connection

COUNT = 40
BEFORE_OWNERS = 3
_BUSINESS = """
INSERT INTO plans VALUES ('pro', now());
INSERT INTO plan_versions (plan_key, version, name, document, created_at, published_at)
VALUES ('pro', 1, 'Pro', '{}', now(), now());
INSERT INTO customers (id, key, name, created_at, updated_at)
SELECT 'cus_' || lpad(n::text, 26, '0'), 'c' || n, 'C', now(), now() FROM generate_series(1, 3) n;
INSERT INTO subscriptions (id, customer_id, plan_key, plan_version, environment, anchor_at, starts_at, created_at,
                           updated_at)
SELECT 'sub_' || lpad(n::text, 26, '0'), 'cus_' || lpad((1 + n % 3)::text, 26, '0'), 'pro', 1,
    CASE WHEN n <= 3 THEN 'live' ELSE 'test' END, now(), now(), now(), now()
FROM generate_series(1, 5) n;
INSERT INTO token_families (id, subscription_id, name, created_at)
SELECT 'fam_' || lpad(n::text, 26, '0'), 'sub_' || lpad((1 + n % 5)::text, 26, '0'),
    CASE WHEN n % 2 = 0 THEN 'n' || n ELSE '' END, now()
FROM generate_series(1, 10) n
"""
_TOKENS = """
INSERT INTO tokens (id, family_id, digest, pepper_id, hint, created_at)
SELECT 'tok_' || lpad(n::text, 26, '0'), 'fam_' || lpad((1 + n % 10)::text, 26, '0'), sha256(n::text::bytea), 'pepper',
    '0000', now()
FROM generate_series($1::integer, $2::integer) n
"""
_WRONG = """
SELECT count(*) FROM tokens t
JOIN token_families f ON f.id = t.family_id JOIN subscriptions s ON s.id = f.subscription_id
WHERE (t.subscription_id, t.customer_id, t.name) IS DISTINCT FROM (s.id, s.customer_id, f.name)
"""


@pytest.fixture
async def owner(database: Database) -> AsyncIterator[Connection]:
    """Return a connection to a database with some tokens of several customers."""
    connection = await asyncpg.connect(database.dsn)
    await connection.execute(_BUSINESS)
    await connection.execute(_TOKENS, 1, COUNT)
    yield connection
    await connection.close()


async def wrong(connection: Connection) -> int:
    """Return how many tokens are said to be somebody else's."""
    found: int = await connection.fetchval(_WRONG)
    return found


async def test_a_new_token_is_its_family_s(owner: Connection) -> None:
    """Nobody has to tell whose it is, and who tells something else is not believed."""
    assert await wrong(owner) == 0
    await owner.execute(
        """INSERT INTO tokens (id, family_id, subscription_id, customer_id, name, digest, pepper_id, hint, created_at)
           SELECT 'tok_' || lpad('99', 26, '0'), family_id, 'sub_' || lpad('2', 26, '0'), 'cus_' || lpad('2', 26, '0'),
               'elsewhere', sha256('99'), 'pepper', '0000', now()
           FROM tokens WHERE id = 'tok_' || lpad('9', 26, '0')"""
    )
    assert (await owner.fetchval("SELECT count(*) FROM tokens"), await wrong(owner)) == (COUNT + 1, 0)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE tokens SET customer_id = (SELECT max(id) FROM customers)",
        "UPDATE tokens SET subscription_id = (SELECT max(id) FROM subscriptions)",
        "UPDATE tokens SET name = 'mine'",
        "UPDATE tokens SET family_id = (SELECT max(id) FROM token_families)",
        "UPDATE tokens SET customer_id = NULL",
        "UPDATE token_families SET subscription_id = (SELECT max(id) FROM subscriptions)",
        "UPDATE token_families SET name = 'mine'",
        "UPDATE subscriptions SET customer_id = (SELECT max(id) FROM customers), starts_at = 'infinity'",
        """INSERT INTO tokens (id, family_id, digest, pepper_id, hint, created_at)
           VALUES ('tok_' || lpad('98', 26, '0'), 'fam_' || lpad('98', 26, '0'), sha256('98'), 'p', '0000', now())""",
    ],
)
async def test_no_statement_makes_token_and_family_differ(owner: Connection, statement: str) -> None:
    """A list by customer, subscription or name never shows, and a bulk revocation never misses, another's token."""
    await owner.execute("ALTER TABLE subscriptions DROP CONSTRAINT subscriptions_do_not_overlap")
    with pytest.raises(asyncpg.IntegrityConstraintViolationError, match="tokens"):
        await owner.execute(statement)
    assert await wrong(owner) == 0


async def test_tokens_from_before_get_their_owners(postgres_server: PostgresServer) -> None:
    """A database in use is migrated whole, and an older program that still runs issues tokens that are owned too."""
    admin = await asyncpg.connect(postgres_server.dsn())
    await admin.execute("CREATE DATABASE owned_late")
    dsn = postgres_server.dsn("owned_late")
    steps = shipped()
    await migrate(dsn, migrations=steps[:BEFORE_OWNERS])
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(_BUSINESS)
        await connection.execute(_TOKENS, 1, COUNT)
        await migrate(dsn, migrations=steps[: BEFORE_OWNERS + 1])
        await connection.execute(_TOKENS, COUNT + 1, 2 * COUNT)
        await asyncio.gather(migrate(dsn), migrate(dsn))
        await connection.execute(_TOKENS, 2 * COUNT + 1, 3 * COUNT)
        assert (await connection.fetchval("SELECT count(*) FROM tokens"), await wrong(connection)) == (3 * COUNT, 0)
    finally:
        await connection.close()
        await admin.execute("DROP DATABASE owned_late WITH (FORCE)")
        await admin.close()
