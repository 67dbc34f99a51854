"""Use cases of subscriptions: beginning, pausing and ending a customer's contract.

What happens to its plan in between is in `contracts`. Each use case is one transaction: the rows, the
license compiled from them, the audit entry and the notice.
"""

from datetime import UTC, datetime
from functools import cache
from typing import Literal
from zoneinfo import ZoneInfo, available_timezones

from tallygate.admin.catalogue import need_offered, need_version
from tallygate.admin.desk import PAGE, Desk, check_reach, check_reason, need_customer
from tallygate.admin.dossier import need_locked, need_subscription, read_all, recompile
from tallygate.admin.records import Subscription, as_json
from tallygate.admin.rows.subscriptions import SubscriptionRow
from tallygate.admin.transaction import Transaction
from tallygate.core.errors import ConflictError, InputError
from tallygate.core.ids import new_id
from tallygate.core.periods import Calendar, PeriodUnit
from tallygate.licenses.license import CustomerStatus
from tallygate.plans.codec import plan_from_document
from tallygate.plans.document import Plan, TrialEnd
from tallygate.tokens.format import Environment

When = datetime | Literal["now", "period-end"]
"""When something takes force: at once, when the running billing period ends, or at an instant to come."""


class Subscriptions:
    """Create, list, show, suspend, resume and cancel subscriptions."""

    def __init__(self, desk: Desk) -> None:
        """Work at `desk`."""
        self._desk = desk

    async def create(
        self,
        customer: str,
        plan: str,
        *,
        environment: Environment = Environment.LIVE,
        starts_at: datetime | None = None,
        anchor_at: datetime | None = None,
        timezone: str = "UTC",
        reason: str = "",
    ) -> Subscription:
        """Put a customer on a plan version (`pro` pins the newest that is offered), its trial first if it has one.

        Starts now unless told; the billing anchor is the start unless told, at its whole minute. Raises InputError,
        or ConflictError for a version that is not offered or another subscription that runs at that time.
        """
        check_reason(reason)
        _check_timezone(timezone)
        async with self._desk.transaction() as rows:
            payer = await need_customer(rows, customer)
            await rows.customers.lock(payer.id)  # two at once would wait for each other where they overlap
            payer = await need_customer(rows, payer.id)
            if payer.status == CustomerStatus.CLOSED:
                raise ConflictError("customer", f"{payer.key} is closed", "create a new customer")
            version = await need_offered(rows, plan)
            start = starts_at or rows.now
            check_reach("starts_at", start, rows.now)
            check_reach("anchor_at", anchor_at or start, rows.now)
            anchor = _whole_minute(anchor_at or start, timezone)
            made = SubscriptionRow(
                id=new_id("sub", rows.now), customer=payer.id, plan=version.ref, environment=environment.value,
                anchor_at=anchor, timezone=timezone, starts_at=start, ends_at=None, suspended_at=None,
                trial_to=await _trial_to(rows, plan_from_document(version.document)), created_at=rows.now,
                updated_at=rows.now, revision=1,
            )  # fmt: skip
            await rows.subscriptions.insert(made)
            (record,) = await recompile(rows, [made.id])
            rows.audit("subscription.create", made.id, None, as_json(record), reason)
        return record

    async def list(
        self, customer: str | None = None, after: str = "", limit: int = PAGE, *, plan: str | None = None
    ) -> list[Subscription]:
        """Return subscriptions in order of creation: of one customer, of those made on one version, or all."""
        async with self._desk.transaction() as rows:
            customer_id = None if customer is None else (await need_customer(rows, customer)).id
            pinned = None if plan is None else (await need_version(rows, plan)).ref
            if customer_id is not None and pinned is not None:
                raise InputError("plan", "goes without customer", "leave one of them out")
            return await read_all(rows, await rows.subscriptions.ids(customer_id, pinned, after, limit))

    async def show(self, ref: str) -> Subscription:
        """Return the subscription with this id; raise NotFoundError."""
        async with self._desk.transaction() as rows:
            return await need_subscription(rows, ref)

    async def suspend(self, ref: str, reason: str = "", *, revision: int | None = None) -> Subscription:
        """Refuse every token of a subscription until it is resumed; one that is suspended stays as it is."""
        check_reason(reason)
        async with self._desk.transaction() as rows:
            stored, before = await need_locked(rows, ref, revision)
            check_running(stored.row, rows.now)
            if before.suspended_at is not None:
                return before
            await rows.subscriptions.set_suspended(before.id, rows.now)
            return await _changed(rows, "subscription.suspend", before, reason)

    async def resume(self, ref: str, reason: str = "", *, revision: int | None = None) -> Subscription:
        """Let a suspended subscription go on; the time it was suspended is not given back."""
        check_reason(reason)
        async with self._desk.transaction() as rows:
            stored, before = await need_locked(rows, ref, revision)
            check_running(stored.row, rows.now)
            if before.suspended_at is None:
                return before
            await rows.subscriptions.set_suspended(before.id, None)
            return await _changed(rows, "subscription.resume", before, reason)

    async def cancel(
        self, ref: str, reason: str = "", *, at: When = "now", revision: int | None = None
    ) -> Subscription:
        """End a subscription; one that ends by then already stays as it is."""
        check_reason(reason)
        async with self._desk.transaction() as rows:
            stored, before = await need_locked(rows, ref, revision)
            ends_at = max(await instant_of(rows, stored.row, before, at), before.starts_at)
            if before.ends_at is not None and before.ends_at <= ends_at:
                return before
            await rows.subscriptions.set_end(stored.row, ends_at)
            return await _changed(rows, "subscription.cancel", before, reason)

    async def uncancel(self, ref: str, reason: str = "", *, revision: int | None = None) -> Subscription:
        """Take back an end that lies ahead; raise ConflictError once it has come."""
        check_reason(reason)
        async with self._desk.transaction() as rows:
            stored, before = await need_locked(rows, ref, revision)
            check_running(stored.row, rows.now)
            if before.ends_at is None:
                return before
            await rows.subscriptions.set_end(stored.row, None)
            return await _changed(rows, "subscription.uncancel", before, reason)


async def instant_of(rows: Transaction, row: SubscriptionRow, record: Subscription, at: When) -> datetime:
    """Return the instant that `at` means for a subscription; raise InputError for one that has gone by."""
    if at == "now":
        return rows.now
    if at == "period-end":
        plan = plan_from_document((await need_version(rows, record.plan)).document)
        unit = PeriodUnit.MONTH if plan.price is None else plan.price.every
        running_at = max(rows.now, row.starts_at)
        return Calendar(unit, row.anchor_at, row.timezone).period_at(running_at).end_at
    if at < rows.now:
        raise InputError("at", "lies in the past", "choose now, or an instant to come")
    check_reach("at", at, rows.now)
    return at


def check_running(row: SubscriptionRow, now: datetime) -> None:
    """Raise ConflictError for a subscription that has ended."""
    if row.ends_at is not None and row.ends_at <= max(now, row.starts_at):
        raise ConflictError("subscription", f"{row.id} has ended", "create a new one")


async def _changed(rows: Transaction, action: str, before: Subscription, reason: str) -> Subscription:
    (after,) = await recompile(rows, [before.id])
    rows.audit(action, before.id, as_json(before), as_json(after), reason)
    return after


async def _trial_to(rows: Transaction, plan: Plan) -> str | None:
    """Return the version the plan's trial falls back to: the newest that is offered today."""
    if plan.trial is None or plan.trial.at_end is not TrialEnd.DOWNGRADE or plan.trial.to is None:
        return None
    return (await need_offered(rows, plan.trial.to)).ref


def _whole_minute(at: datetime, timezone: str) -> datetime:
    """Return the minute of `at`: use is recorded by the minute, and none may belong to two billing periods.

    By the zone's clock, which later periods keep to; it once had zones apart from UTC by half a minute.
    """
    return at.astimezone(ZoneInfo(timezone)).replace(second=0, microsecond=0).astimezone(UTC)


def _check_timezone(name: str) -> None:
    if name not in _timezones():
        raise InputError("timezone", f"{name!r} is no time zone", "use an IANA name such as Europe/Berlin")


@cache
def _timezones() -> frozenset[str]:
    """Return the zones that are the same on every machine; a machine's own, or one with leap seconds, is not."""
    return frozenset(available_timezones() - {"localtime", "Factory"})
