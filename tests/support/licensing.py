"""Licenses to store and read: small builders, and one way to write them into either store."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

from support.terms import START_AT, terms_of

from tallygate.core.periods import Calendar, PeriodUnit
from tallygate.licenses.codec import encode_terms
from tallygate.licenses.codec_routes import Meters, encode_routes
from tallygate.licenses.license import CustomerStatus, Grant, License
from tallygate.licenses.memory import MemoryLicenseStore
from tallygate.licenses.routes import RouteRule
from tallygate.licenses.store import ROUTES_SUBJECT
from tallygate.limits.limit import Limit, LimitKind, OnExceed
from tallygate.storage.postgres import Connection

GRANT = Grant(
    plan="pro@1",
    plan_key="pro",
    scopes=frozenset({"things.read", "things.write"}),
    features={"reports": True, "max_projects": 20, "tier": "gold"},
    limits=(
        Limit("burst", LimitKind.RATE, 50, window_us=1_000_000, burst=100),
        Limit(
            "monthly",
            LimitKind.QUOTA,
            1_000_000,
            calendar=Calendar(PeriodUnit.MONTH, START_AT, "Europe/Berlin"),
            on_exceed=OnExceed.OVERAGE,
            ceiling=3_000_000,
        ),
    ),
    upgrade_url="https://example.test/upgrade",
)
TERMS = terms_of(GRANT)


def digest_of(number: int) -> bytes:
    """Return the digest the tests give token `number`."""
    return number.to_bytes(32, "big")


def license_of(number: int = 1, **changes: Any) -> License:  # noqa: ANN401 - the fields of License
    """Return a license whose four ids carry `number`."""
    entry = License(
        customer=f"cus_{number:026}",
        customer_status=CustomerStatus.ACTIVE,
        subscription=f"sub_{number:026}",
        family=f"fam_{number:026}",
        token=f"tok_{number:026}",
        terms=TERMS,
        generation=1,
    )
    return replace(entry, **changes)


class Writer(Protocol):
    """Who changes what a store under test reads."""

    async def put(self, digest: bytes, entry: License, subject: str | None = None) -> int:
        """Store a license as a change of `subject` (its token unless told) and return its number."""
        ...

    async def put_routes(self, rules: Sequence[RouteRule], meters: Meters | None = None) -> int:
        """Put route rules, and the parents of their meters, in force and return the number of that change."""
        ...

    async def change(self, subject: str) -> int:
        """Record that something about `subject` has changed."""
        ...

    async def prune(self) -> None:
        """Forget every change so far."""
        ...


class MemoryWriter:
    """Writes into the memory store."""

    def __init__(self, store: MemoryLicenseStore) -> None:
        """Write into `store`."""
        self._store = store

    async def put(self, digest: bytes, entry: License, subject: str | None = None) -> int:
        """Store a license."""
        return self._store.put(digest, entry, subject=subject).generation

    async def put_routes(self, rules: Sequence[RouteRule], meters: Meters | None = None) -> int:
        """Put route rules in force."""
        return self._store.put_routes(rules, meters).generation

    async def change(self, subject: str) -> int:
        """Record a change."""
        return self._store.record_change(subject).generation

    async def prune(self) -> None:
        """Forget every change so far."""
        self._store.prune(await self._store.generation())


class PostgresWriter:
    """Writes rows by plain SQL, as the owner of the database; each call is one transaction."""

    def __init__(self, connection: Connection) -> None:
        """Write through `connection`."""
        self._connection = connection

    async def put(self, digest: bytes, entry: License, subject: str | None = None) -> int:
        """Store a license with everything it hangs on, replacing what was there."""
        async with self._connection.transaction():
            await put_license(self._connection, digest, entry)
            return await self.change(entry.token if subject is None else subject)

    async def put_routes(self, rules: Sequence[RouteRule], meters: Meters | None = None) -> int:
        """Put route rules in force."""
        async with self._connection.transaction():
            await self._connection.execute(
                "INSERT INTO route_tables SELECT count(*) + 1, $1::jsonb, now() FROM route_tables",
                json.dumps(encode_routes(rules, meters)),
            )
            return await self.change(ROUTES_SUBJECT)

    async def change(self, subject: str) -> int:
        """Record a change."""
        number: int = await self._connection.fetchval("SELECT record_change($1)", subject)
        return number

    async def prune(self) -> None:
        """Forget every change so far."""
        await self._connection.execute("SELECT prune_changes('0 seconds')")


_ROWS = """
WITH plan AS (INSERT INTO plans VALUES ('pro', now()) ON CONFLICT DO NOTHING),
version AS (
    INSERT INTO plan_versions VALUES ('pro', 1, 'Pro', '{}', now(), now()) ON CONFLICT DO NOTHING),
customer AS (
    INSERT INTO customers VALUES ($1, 'key-' || right($1, 8), 'A customer', $2, now(), now())
    ON CONFLICT (id) DO UPDATE SET status = excluded.status),
subscription AS (
    INSERT INTO subscriptions VALUES ($3, $1, 'pro', 1, 'live', now(), 'UTC', now(), NULL, NULL, now(), now())
    ON CONFLICT DO NOTHING),
license AS (
    INSERT INTO licenses VALUES ($3, $4, $5)
    ON CONFLICT (subscription_id) DO UPDATE SET terms = excluded.terms, generation = excluded.generation)
INSERT INTO token_families VALUES ($6, $3, '', now()) ON CONFLICT DO NOTHING
"""
_TOKEN = """
INSERT INTO tokens VALUES ($1, $2, $3, 'pepper', '0000', $4, $5, $6, $7, $8, $9, now())
ON CONFLICT (id) DO UPDATE SET scopes = excluded.scopes, networks = excluded.networks,
    not_before_at = excluded.not_before_at, expires_at = excluded.expires_at,
    revoked_at = excluded.revoked_at, disabled_at = excluded.disabled_at
"""


async def put_license(connection: Connection, digest: bytes, entry: License) -> None:
    """Insert or update the rows that `find_license_v1` makes `entry` of; no change is recorded."""
    await connection.execute(
        _ROWS,
        entry.customer,
        entry.customer_status.value,
        entry.subscription,
        json.dumps(encode_terms(entry.terms)),
        entry.generation,
        entry.family,
    )
    scopes = None if entry.scopes is None else sorted(entry.scopes)
    instants = (entry.not_before_at, entry.expires_at, entry.revoked_at, entry.disabled_at)
    await connection.execute(_TOKEN, entry.token, entry.family, digest, scopes, list(entry.networks), *instants)
