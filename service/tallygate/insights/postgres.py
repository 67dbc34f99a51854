"""Reading what all subscriptions come to from Postgres, a page of them at a time.

Owns the statements, and how much is done at once: a page is read in one snapshot and reckoned a few subscriptions at a
time, others having their turns between them. Memory is that of a page, and of the plan versions met, which never
change. One task at a time. Failure: StoreUnavailableError, also for a page that takes longer than its deadline.
"""

import asyncio
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime

import asyncpg

from tallygate.billing.usage import Outcome
from tallygate.insights.position import Contracted, Position, Span, position_of, versions
from tallygate.insights.revenue import Revenue, Units
from tallygate.insights.spans import cover
from tallygate.licenses.codec import decode_terms
from tallygate.licenses.license import CustomerStatus
from tallygate.plans.codec import plan_from_document
from tallygate.plans.contract import Carry, Contract, PlanChange
from tallygate.plans.document import Plan
from tallygate.storage.postgres import Pool, PooledConnection, acquire
from tallygate.storage.queries import load

_SQL = load("tallygate.insights", "queries.sql")
_PAGE = 500
_AT_ONCE = 10
"""Subscriptions reckoned before others have their turn: some milliseconds."""


class PostgresRevenue:
    """Reads contracts and the ledger."""

    def __init__(self, pool: Pool, *, deadline_s: float = 30.0, page: int = _PAGE) -> None:
        """Read through `pool`, each page of subscriptions within `deadline_s`."""
        self._pool = pool
        self._deadline_s = deadline_s
        self._page = page
        self._plans: dict[str, Plan] = {}

    async def read(self, at: datetime) -> Revenue:
        """Return what all subscriptions come to at `at`, the present."""
        found, after = Revenue(), ""
        while True:
            async with (
                acquire(self._pool, self._deadline_s, "read what subscriptions come to") as connection,
                connection.transaction(isolation="repeatable_read", readonly=True),
            ):
                ids = [row["id"] for row in await connection.fetch(_SQL["page"], after, self._page)]
                await self._add(found, connection, ids, at)
            if len(ids) < self._page:
                return found
            after = ids[-1]

    async def _add(self, found: Revenue, connection: PooledConnection, ids: Sequence[str], at: datetime) -> None:
        stored = await _contracted(connection, await connection.fetch(_SQL["contracts"], ids, at))
        await self._learn(connection, versions(stored))
        positions: list[Position] = []
        for each in stored:
            positions.append(position_of(each, self._plans, at))
            await _turn(len(positions))
        used = await _used(connection, (span for each in positions for span in each.spans))
        await self._learn(connection, {each.plan for units in used.values() for each in units})
        for number, position in enumerate(positions):
            found.add(position, used, self._plans)
            await _turn(number)

    async def _learn(self, connection: PooledConnection, refs: set[str]) -> None:
        unknown = refs - self._plans.keys()
        if unknown:
            rows = await connection.fetch(_SQL["versions"], list(unknown))
            self._plans |= {row["ref"]: plan_from_document(json.loads(row["document"])) for row in rows}


async def _contracted(connection: PooledConnection, rows: Sequence[asyncpg.Record]) -> list[Contracted]:
    changes: defaultdict[str, list[PlanChange]] = defaultdict(list)
    for row in await connection.fetch(_SQL["plan_changes"], [row["id"] for row in rows]):
        change = PlanChange(row["id"], row["at"], f"{row['plan_key']}@{row['plan_version']}", Carry(row["carry"]))
        changes[row["subscription_id"]].append(change)
    found: list[Contracted] = []
    for row in rows:
        terms = None if row["terms"] is None else decode_terms(row["terms"].encode())
        contract = _contract(row, tuple(changes[row["id"]]))
        status = CustomerStatus(row["customer_status"])
        found.append(Contracted(row["id"], status, contract, row["first_used_at"], terms))
        await _turn(len(found))
    return found


def _contract(row: asyncpg.Record, changes: tuple[PlanChange, ...]) -> Contract:
    has_fallback = row["trial_to_key"] is not None
    return Contract(
        customer=row["customer_id"],
        plan=f"{row['plan_key']}@{row['plan_version']}",
        anchor_at=row["anchor_at"],
        timezone=row["timezone"],
        starts_at=row["starts_at"],
        ends_at=row["ends_at"],
        trial_to=f"{row['trial_to_key']}@{row['trial_to_version']}" if has_fallback else None,
        changes=changes,
    )


async def _used(connection: PooledConnection, spans: Iterable[Span]) -> dict[Span, list[Units]]:
    """Return what was used in these spans."""
    asked = list(dict.fromkeys(spans))
    parts: list[tuple[int | str | datetime | None, ...]] = []
    for place, span in enumerate(asked):
        whose = span.customer, span.subscription
        parts += ((place, grain.value, *whose, *ends) for grain, *ends in cover(span.from_at, span.to_at))
        await _turn(place)
    found: dict[Span, list[Units]] = {}
    rows = await connection.fetch(_SQL["used"], *map(list, zip(*parts, strict=True))) if parts else []
    for number, row in enumerate(rows):
        units = Units(row["plan"], row["meter"], Outcome(row["outcome"]), row["quantity"])
        found.setdefault(asked[row["place"]], []).append(units)
        await _turn(number)
    return found


async def _turn(number: int) -> None:
    if number % _AT_ONCE == 0:
        await asyncio.sleep(0)
