"""Rows of subscriptions and of everything that hangs on one: changes, overrides, grants, terms."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from tallygate.admin.postgres import OverlapError, Row, Statements
from tallygate.admin.records import ChangeRecord, CreditRecord, Json
from tallygate.admin.rows import to_json
from tallygate.admin.rows.plans import split_ref
from tallygate.core.errors import ConflictError
from tallygate.core.redaction import hide_secrets
from tallygate.licenses.codec import decode_terms
from tallygate.licenses.license import Terms


@dataclass(frozen=True, slots=True)
class SubscriptionRow:
    """A subscription as it is stored; `plan` is the version it was made on."""

    id: str
    customer: str
    plan: str
    environment: str
    anchor_at: datetime
    timezone: str
    starts_at: datetime
    ends_at: datetime | None
    suspended_at: datetime | None
    trial_to: str | None
    created_at: datetime
    updated_at: datetime
    revision: int
    first_used_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class StoredContract:
    """A subscription with all that hangs on it; `terms` is None before it was first compiled."""

    row: SubscriptionRow
    past_due_at: datetime | None
    changes: tuple[ChangeRecord, ...]
    overrides: Json | None
    credits: tuple[CreditRecord, ...]
    terms: Terms | None


class SubscriptionRows:
    """Subscriptions in one transaction, at the instant `now`, changed by `actor`."""

    def __init__(self, statements: Statements, now: datetime, actor: str) -> None:
        """Run `statements`."""
        self._sql = statements
        self._now = now
        self._actor = actor

    async def insert(self, made: SubscriptionRow) -> None:
        """Add a subscription; raise ConflictError naming one that it overlaps."""
        trial_to = split_ref(made.trial_to) if made.trial_to else (None, None)
        await self._unless_overlapping(
            made, made.ends_at, "insert_subscription", made.id, made.customer, *split_ref(made.plan),
            made.environment, made.anchor_at, made.timezone, made.starts_at, *trial_to, self._now,
        )  # fmt: skip

    async def set_end(self, row: SubscriptionRow, ends_at: datetime | None) -> None:
        """Set when a subscription ends; raise ConflictError naming one that it would overlap."""
        await self._unless_overlapping(row, ends_at, "end_subscription", row.id, ends_at, self._now)

    async def set_suspended(self, subscription_id: str, since: datetime | None) -> None:
        """Suspend a subscription, or (None) resume it."""
        await self._sql.run("suspend_subscription", subscription_id, since, self._now)

    async def touch(self, subscription_ids: Sequence[str]) -> None:
        """Count a revision of subscriptions on which something that hangs has changed."""
        await self._sql.run("touch_subscriptions", list(subscription_ids), self._now)

    async def lock(self, subscription_ids: Sequence[str]) -> list[str]:
        """Let nobody else change these until the transaction ends; return those that exist."""
        return [row["id"] for row in await self._sql.rows("lock_subscriptions", list(subscription_ids))]

    async def get(self, subscription_ids: Sequence[str]) -> list[StoredContract]:
        """Return the subscriptions with these ids, in order of creation, with all that hangs on them."""
        ids = list(subscription_ids)
        changes = _grouped(await self._sql.rows("changes", ids))
        overrides = _grouped(await self._sql.rows("overrides", ids))
        credits_ = _grouped(await self._sql.rows("credits", ids))
        return [
            StoredContract(
                row=_subscription(row),
                past_due_at=row["past_due_at"],
                changes=tuple(_change(each) for each in changes.get(row["id"], ())),
                overrides=next((json.loads(each["document"]) for each in overrides.get(row["id"], ())), None) or None,
                credits=tuple(_credit(each) for each in credits_.get(row["id"], ())),
                terms=None if row["terms"] is None else decode_terms(row["terms"].encode()),
            )
            for row in await self._sql.rows("subscriptions_by_id", ids)
        ]

    async def ids(self, customer_id: str | None, plan: str | None, after: str, limit: int) -> list[str]:
        """Return ids after the id `after`: of a customer, of those made on a plan version, or of all."""
        if customer_id is not None:
            rows = await self._sql.rows("subscription_ids_of_customer", customer_id, after, limit)
        elif plan is not None:
            rows = await self._sql.rows("subscription_ids_of_plan", *split_ref(plan), after, limit)
        else:
            rows = await self._sql.rows("subscription_ids", after, limit)
        return [row["id"] for row in rows]

    async def live_ids(self, customer_id: str) -> list[str]:
        """Return the ids of a customer's subscriptions that have not ended."""
        rows = await self._sql.rows("live_subscription_ids_of_customer", customer_id, self._now)
        return [row["id"] for row in rows]

    async def terms(self, subscription_id: str) -> Terms | None:
        """Return what a subscription is compiled to."""
        row = await self._sql.row("terms", subscription_id)
        return None if row is None else decode_terms(row["terms"].encode())

    async def insert_changes(self, changes: Iterable[tuple[str, ChangeRecord]]) -> None:
        """Add changes, each to the subscription whose id stands before it."""
        await self._sql.run_many(
            "insert_change",
            [
                (made.id, owner, made.at, *split_ref(made.plan), made.carry, made.created_at)
                for owner, made in changes
            ],
        )  # fmt: skip

    async def owner_of_change(self, change_id: str) -> str | None:
        """Return the id of the subscription a change belongs to."""
        row = await self._sql.row("change_subscription", change_id)
        return None if row is None else str(row["subscription_id"])

    async def cancel_change(self, change_id: str) -> None:
        """Take a change back."""
        await self._sql.run("cancel_change", change_id, self._now)

    async def insert_override(self, subscription_id: str, document: Json, reason: str) -> None:
        """Put terms of its own in force for a subscription, instead of any before."""
        why = hide_secrets(reason)
        await self._sql.run("insert_override", subscription_id, to_json(document), self._actor, why, self._now)

    async def overridden_at(self, subscription_ids: Sequence[str]) -> dict[str, datetime]:
        """Return when those of these that were ever given terms of their own were given the last, by their ids."""
        rows = await self._sql.rows("overridden_at", list(subscription_ids))
        return {row["subscription_id"]: row["at"] for row in rows}

    async def insert_credits(self, subscription_id: str, made: CreditRecord, reason: str) -> None:
        """Add units to the balance of a credits limit."""
        await self._sql.run(
            "insert_credits", made.id, subscription_id, made.limit, made.amount, made.at, made.expires_at,
            self._actor, hide_secrets(reason),
        )  # fmt: skip

    async def _unless_overlapping(
        self, row: SubscriptionRow, ends_at: datetime | None, name: str, *values: object
    ) -> None:
        """Run a statement; the database alone judges, this only finds whom to name."""
        try:
            async with self._sql.savepoint():
                await self._sql.run(name, *values)
        except OverlapError:
            other = await self._sql.row(
                "overlapping_subscription", row.customer, row.environment, row.starts_at, ends_at, row.id
            )
            named = other["id"] if other else "another subscription"
            problem = f"the customer has {named} in {row.environment} at that time"
            raise ConflictError("subscription", problem, "change its plan, or end it first") from None


def _grouped(rows: Iterable[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["subscription_id"], []).append(row)
    return found


def _subscription(row: Row) -> SubscriptionRow:
    has_fallback = row["trial_to_key"] is not None
    return SubscriptionRow(
        id=row["id"],
        customer=row["customer_id"],
        plan=f"{row['plan_key']}@{row['plan_version']}",
        environment=row["environment"],
        anchor_at=row["anchor_at"],
        timezone=row["timezone"],
        starts_at=row["starts_at"],
        ends_at=row["ends_at"],
        suspended_at=row["suspended_at"],
        trial_to=f"{row['trial_to_key']}@{row['trial_to_version']}" if has_fallback else None,
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        revision=row["revision"],
        first_used_at=row["first_used_at"],
    )


def _change(row: Row) -> ChangeRecord:
    plan = f"{row['plan_key']}@{row['plan_version']}"
    return ChangeRecord(row["id"], row["at"], plan, row["carry"], row["created_at"], row["canceled_at"])


def _credit(row: Row) -> CreditRecord:
    return CreditRecord(row["id"], row["limit_name"], row["amount"], row["at"], row["expires_at"])
