"""A business of a given size, written straight into an empty database as two years of use would have left it.

Plans and versions are published, and licenses compiled, by the product itself; rows go in by COPY, in the order in
which they came to be. Ids and times are real, so the tokens of one customer lie scattered over the whole table. One
customer, the whale, has as many tokens as is asked for. Owns the shape of the crowd; the same `seed` makes the same
shape, with other ids, times and secrets. Not for a database with anything in it.
"""

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import chain, count, repeat
from typing import Any, TypeAlias

import msgspec
from benchmarks.lab import FORMAT, PEPPERS

from tallygate.admin.operations import Operations
from tallygate.core.ids import new_id
from tallygate.plans.codec import plan_from_document
from tallygate.plans.compile import compile_terms
from tallygate.plans.contract import Contract
from tallygate.plans.document import Plan
from tallygate.plans.parse import parse
from tallygate.storage.postgres import Connection
from tallygate.tokens.format import Environment
from tallygate.tokens.mint import mint

Row: TypeAlias = tuple[Any, ...]

VERSIONS = 4
"""Releases of every plan that subscriptions are still on."""

_HISTORY = timedelta(days=730)
_SHARES = {"free": 70, "pro": 25, "enterprise": 5}  # percent of subscriptions
_REVOKED, _ROTATED, _USED = 0.01, 0.2, 0.3
_AUDIT_ENTRIES, _CHANGES = 200_000, 100_000
_ACTIONS = ("token.issue", "token.rotate", "token.revoke", "subscription.create", "customer.create")
_AFTER = '{"name": "", "hint": "abcd", "scopes": null, "status": "active", "networks": []}'

_CATALOGUE = """
routes: [{{match: "* /v1/**"}}]
plans:
  - key: free
    name: Free
    price: {{amount: "0", currency: USD, every: month}}
    scopes: [things.read]
    features: {{reports: false, max_projects: 1}}
    limits:
      - {{name: per-second, rate: 5/s}}
      - {{name: daily, quota: {free}, period: day}}
  - key: pro
    name: Pro
    price: {{amount: "49.00", currency: USD, every: month}}
    trial: {{days: 14, at_end: convert}}
    grace: {{days: 7}}
    scopes: [things.read, things.write]
    features: {{reports: true, max_projects: 20}}
    limits:
      - {{name: burst, rate: 50/s, burst: 100}}
      - {{name: per-token, rate: 20/s, per: token}}
      - {{name: monthly, quota: {pro}, period: billing, on_exceed: overage, allow_until: 3x}}
  - key: enterprise
    name: Enterprise
    price: {{amount: "{price}", currency: USD, every: year}}
    scopes: [things.read, things.write]
    features: {{reports: true, max_projects: 1000, support: phone}}
    limits:
      - {{name: per-second, rate: 1_000_000/s, burst: 1_000_000}}
      - {{name: daily, quota: 10_000_000_000, period: day}}
      - {{name: monthly, quota: 100_000_000_000, period: month}}
"""


def catalogue_text(version: int) -> str:
    """Return the plan file of one release of all plans."""
    return _CATALOGUE.format(free=100 * version, pro=250_000 * version, price=f"{2000 + 500 * version}.00")


@dataclass(frozen=True, slots=True)
class Crowd:
    """Who is in the database: the subscriptions that run, and of usable `tokens` id and secret of as many as wanted.

    `whale_tokens` are the ids of all the whale's tokens, usable or not, in order of creation.
    """

    customers: Sequence[str]
    subscriptions: Sequence[str]
    families: Sequence[str]
    tokens: Sequence[tuple[str, str]]
    whale: str
    whale_subscription: str
    whale_tokens: Sequence[str]


async def populate(
    operations: Operations,
    connection: Connection,
    *,
    customers: int,
    tokens: int,
    whale: int,
    known: int,
    seed: int = 1,
) -> Crowd:
    """Fill an empty database through a superuser's `connection`; of `tokens`, the whale has `whale` or a few more."""
    for version in range(1, VERSIONS + 1):
        await operations.plans.apply(parse(catalogue_text(version), "benchmark"))
    plans = {version.ref: plan_from_document(version.document) for version in await operations.plans.list()}
    history = _History(random.Random(seed), datetime.now(UTC))  # noqa: S311 - a crowd is no secret
    async with connection.transaction():
        # Foreign keys and triggers are for rows that may be wrong; every index is kept up to date.
        await connection.execute("SET LOCAL session_replication_role = replica")
        payers = history.customers(customers)
        await _copy(connection, "customers", "id key name status created_at updated_at", payers)
        contracts = history.contracts(payers)
        await _copy(connection, "subscriptions", _CONTRACT_COLUMNS, (contract.row for contract in contracts))
        await _copy(connection, "licenses", "subscription_id terms generation", _licenses(contracts, plans))
        of_whale = next(each for each in contracts if each.customer == payers[0][0] and each.ends_at is None)
        families, issued, secrets = history.tokens(contracts, repeat(of_whale, whale), tokens, max(1, tokens // known))
        await _copy(connection, "token_families", "id subscription_id name created_at", families)
        await _copy(connection, "tokens", _ISSUED_COLUMNS, issued)
        await _copy(connection, "token_last_used", "token_id at", history.uses(issued))
        await _write_logs(connection, [row[0] for row in issued], history.now)
    await connection.execute("VACUUM ANALYZE", timeout=300)
    ids = [[row[0] for row in rows] for rows in (payers, families)]
    return Crowd(
        customers=ids[0],
        subscriptions=[contract.id for contract in contracts if contract.ends_at is None],
        families=ids[1],
        tokens=secrets,
        whale=of_whale.customer,
        whale_subscription=of_whale.id,
        whale_tokens=[row[0] for row in issued if row[3] == of_whale.customer],
    )


@dataclass(frozen=True, slots=True)
class _Contract:
    id: str
    customer: str
    plan: str
    environment: Environment
    starts_at: datetime
    ends_at: datetime | None

    @property
    def row(self) -> Row:
        key, _, version = self.plan.partition("@")
        begun, where = self.starts_at, self.environment.value
        return self.id, self.customer, key, int(version), where, begun, begun, self.ends_at, begun, begun


_CONTRACT_COLUMNS = "id customer_id plan_key plan_version environment anchor_at starts_at ends_at created_at updated_at"
_ISSUED_COLUMNS = "id family_id subscription_id customer_id name digest pepper_id hint revoked_at created_at"


class _History:
    """How it came to be; everything by chance comes from one generator. Rows are in order of creation."""

    def __init__(self, chance: random.Random, now: datetime) -> None:
        self._chance = chance
        self.now = now

    def _between(self, since: datetime, until: datetime) -> datetime:
        return since + (until - since) * self._chance.random()

    def customers(self, number: int) -> list[Row]:
        joined = sorted(self._between(self.now - _HISTORY, self.now) for _ in range(number))
        return [
            (new_id("cus", at), f"customer-{index}", f"Customer {index}", "active", at, at)
            for index, at in enumerate(joined)
        ]

    def contracts(self, payers: Iterable[Row]) -> list[_Contract]:
        """Return one to three subscriptions for each customer: one live, one to test, one that has ended."""
        made: list[_Contract] = []
        for payer, *_, begun in payers:
            number = self._chance.choices((1, 2, 3), (60, 30, 10))[0]
            moved = self._between(begun, self.now) if number > 2 else begun  # noqa: PLR2004 - the third is over
            if moved > begun:
                made.append(self._contract(payer, Environment.LIVE, begun, moved))
            made.append(self._contract(payer, Environment.LIVE, moved, None))
            if number > 1:
                made.append(self._contract(payer, Environment.TEST, moved, None))
        return sorted(made, key=lambda contract: contract.starts_at)

    def _contract(self, customer: str, where: Environment, start: datetime, end: datetime | None) -> _Contract:
        key = self._chance.choices(list(_SHARES), list(_SHARES.values()))[0]
        plan = f"{key}@{self._chance.randint(1, VERSIONS)}"
        return _Contract(new_id("sub", start), customer, plan, where, start, end)

    def tokens(
        self, contracts: Sequence[_Contract], more: Iterable[_Contract], number: int, every: int
    ) -> tuple[list[Row], list[Row], list[tuple[str, str]]]:
        """Return families, tokens, and id and secret of each `every`th token.

        First comes a family for each contract, then one each for `more`, then for anyone.
        """
        anyone = (self._chance.choice(contracts) for _ in count())
        families: list[Row] = []
        tokens: list[Row] = []
        known: list[tuple[str, str]] = []
        for holder in chain(contracts, more, anyone):
            if len(tokens) >= number:
                break
            at = self._between(holder.starts_at, self.now)
            family, name = new_id("fam", at), f"key {len(families) % 5000}" if len(families) % 2 else ""
            families.append((family, holder.id, name, at))
            owned = family, holder.id, holder.customer, name
            if self._chance.random() < _ROTATED:
                tokens.append(self._unknown(owned, self._between(holder.starts_at, at)))
            if len(tokens) >= every * len(known) and holder.ends_at is None:
                token, secret = _known(owned, holder.environment, at)
                known.append((token[0], secret))
                tokens.append(token)
            else:
                tokens.append(self._unknown(owned, at))
        return _in_order(families), _in_order(tokens), known

    def _unknown(self, owned: Row, at: datetime) -> Row:
        """Return a token nobody will ask for, so that any digest does."""
        token = new_id("tok", at)
        revoked_at = self.now if self._chance.random() < _REVOKED else None
        return token, *owned, self._chance.randbytes(32), PEPPERS.current.id, token[-4:], revoked_at, at

    def uses(self, tokens: Iterable[Row]) -> Iterator[Row]:
        return ((row[0], self.now) for row in tokens if self._chance.random() < _USED)


def _known(owned: Row, environment: Environment, at: datetime) -> tuple[Row, str]:
    text = mint(FORMAT, environment)
    digest = PEPPERS.current.digest(text)
    return (new_id("tok", at), *owned, digest.value, digest.pepper_id, text.text[-4:], None, at), text.text


def _in_order(rows: list[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: row[-1])


def _licenses(contracts: Iterable[_Contract], plans: Mapping[str, Plan]) -> Iterator[Row]:
    for it in contracts:
        contract = Contract(it.customer, it.plan, it.starts_at, "UTC", it.starts_at, ends_at=it.ends_at)
        terms = compile_terms(contract, plans)
        yield it.id, msgspec.json.encode(terms, order="deterministic").decode(), 1


async def _write_logs(connection: Connection, objects: Sequence[str], now: datetime) -> None:
    """Write the newest part of what such a history leaves in the logs; the audit log's hashes are made up."""
    newest: int = await connection.fetchval("SELECT newest FROM license_generation")
    changes = [(newest + number, name, now) for number, name in enumerate(objects[-_CHANGES:], 1)]
    await _copy(connection, "license_changes", "generation subject changed_at", changes)
    await connection.execute("UPDATE license_generation SET newest = newest + $1", len(changes))
    head: int = await connection.fetchval("SELECT id FROM audit_head")
    entries = [
        (number, now, f"key:{number % 20}", _ACTIONS[number % 5], name, _AFTER, _hash(number - 1), _hash(number))
        for number, name in enumerate(objects[-_AUDIT_ENTRIES:], head + 1)
    ]
    await _copy(connection, "audit", "id at actor action object after previous_hash hash", entries)
    await connection.execute("UPDATE audit_head SET id = $1, hash = $2", entries[-1][0], entries[-1][-1])


def _hash(number: int) -> bytes:
    return sha256(number.to_bytes(8, "big")).digest()


async def _copy(connection: Connection, table: str, columns: str, rows: Iterable[Row]) -> None:
    await connection.copy_records_to_table(table, columns=columns.split(), records=rows, timeout=300)
