"""Use cases of plan versions: taking one out of sale, retiring it, moving subscriptions from one to another.

Nothing cascades: a version that anybody is, or will be, on cannot be retired, and deprecating it changes
nothing for those who are on it. Moving is done in batches, each a transaction of its own, so that no lock
is held for long; who is in the cohort follows from the subscription's id alone, so a run that was broken
off is finished by running it again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from hashlib import sha256

from tallygate.admin.catalogue import need_offered, need_version
from tallygate.admin.desk import Desk, check_reach, check_reason, check_revision
from tallygate.admin.dossier import change_id, contract_of, plans_of, recompile, record_of
from tallygate.admin.records import ChangeRecord, Json, Migration, PlanVersion, Subscription, as_json, version_as_json
from tallygate.admin.rows.subscriptions import StoredContract
from tallygate.admin.transaction import Transaction
from tallygate.core.errors import ConflictError, InputError
from tallygate.licenses.license import Standing
from tallygate.plans.compile import standing_by_plans
from tallygate.plans.contract import Carry

BATCH = 200
"""Subscriptions moved in one transaction."""
_HUNDREDTHS = 10_000


class Versions:
    """Deprecate, reinstate and retire plan versions; move subscriptions between them."""

    def __init__(self, desk: Desk) -> None:
        """Work at `desk`."""
        self._desk = desk

    async def deprecate(self, ref: str, *, reason: str = "", revision: int | None = None) -> PlanVersion:
        """Take no new subscriptions on a version; raise ConflictError when it is retired."""
        async with self._desk.transaction() as rows:
            before = await _need_locked(rows, ref, revision)
            if before.status == "retired":
                raise ConflictError("plan", f"{ref} is retired", "it takes no new subscriptions anyway")
            if before.status == "deprecated":
                return before
            return await _set_state(rows, before, reason, "plan.deprecate", (rows.now, None))

    async def reinstate(self, ref: str, *, reason: str = "", revision: int | None = None) -> PlanVersion:
        """Take new subscriptions on a deprecated version again; raise ConflictError when it is retired."""
        async with self._desk.transaction() as rows:
            before = await _need_locked(rows, ref, revision)
            if before.status == "retired":
                raise ConflictError("plan", f"{ref} is retired for good", "publish it as a new version")
            if before.status == "published":
                return before
            return await _set_state(rows, before, reason, "plan.reinstate", (None, None))

    async def retire(self, ref: str, *, reason: str = "", revision: int | None = None) -> PlanVersion:
        """Close a deprecated version for good; raise ConflictError while anybody is, or will be, on it."""
        async with self._desk.transaction() as rows:
            before = await _need_locked(rows, ref, revision)
            if before.status == "retired":
                return before
            if before.status == "published":
                raise ConflictError("plan", f"{ref} still takes subscriptions", "deprecate it first")
            pinned = (await rows.plans.pins(before.key)).get(before.version, 0)
            if pinned:
                raise ConflictError("plan", f"{pinned} subscriptions are or will be on {ref}", "move them first")
            return await _set_state(rows, before, reason, "plan.retire", (before.deprecated_at, rows.now))

    async def migrate(
        self,
        from_ref: str,
        to_ref: str,
        *,
        percent: Decimal = Decimal(100),
        carry: Carry = Carry.CARRY,
        at: datetime | None = None,
        is_dry_run: bool = False,
        reason: str = "",
    ) -> Migration:
        """Put the `percent` (0 to 100, in hundredths) of those who are on `from_ref` onto `to_ref`, now or `at`.

        The same percentage is the same cohort, and a higher one adds to it, so moving back the other way
        round with the same percentage brings back who went. Trials are left to end first, also those that are
        paused or lie ahead, and one that ended in suspension or cancellation stays ended.
        """
        check_reason(reason)
        _check_percent(percent)
        async with self._desk.transaction() as rows:
            old, new = await need_version(rows, from_ref), await need_offered(rows, to_ref)
            if old.ref == new.ref:
                raise InputError("plan", f"{old.ref} is where they are", "name another version")
            if at is not None and at < rows.now:
                raise InputError("at", "lies in the past", "choose now, or an instant to come")
            check_reach("at", at or rows.now, rows.now)
        move = _Move(old, new, percent, carry, at, reason)
        done = Migration(old.ref, new.ref, f"{percent:f}", 0, 0, 0, 0, is_dry_run)
        after: str | None = ""
        while after is not None:
            async with self._desk.transaction() as rows:
                step, after = await _batch(rows, move, after, is_dry_run=is_dry_run)
            done = replace(
                done,
                eligible=done.eligible + step.eligible,
                moved=done.moved + step.moved,
                trialing=done.trialing + step.trialing,
                ended=done.ended + step.ended,
            )
        return done


@dataclass(frozen=True, slots=True)
class _Move:
    old: PlanVersion
    new: PlanVersion
    percent: Decimal
    carry: Carry
    at: datetime | None
    reason: str


def is_in_cohort(subscription_id: str, percent: Decimal) -> bool:
    """Tell whether a subscription is among the first `percent`; raising it takes nobody out."""
    digest = sha256(f"cohort\0{subscription_id}".encode()).digest()
    return int.from_bytes(digest[:8]) % _HUNDREDTHS < percent * 100


async def _batch(rows: Transaction, move: _Move, after: str, *, is_dry_run: bool) -> tuple[Migration, str | None]:
    """Move the next ones; return what was done, and the id to go on after."""
    ids = await rows.plans.subscriptions_on(move.old, after, BATCH)
    if not is_dry_run:
        await rows.plans.hold(move.new)
        await rows.subscriptions.lock(ids)
    stored = await rows.subscriptions.get(ids)
    records = {each.row.id: record_of(each, rows.now) for each in stored}
    eligible = [each for each in stored if records[each.row.id].plan == move.old.ref and not _will_move(each, move)]
    chosen = [each for each in eligible if is_in_cohort(each.row.id, move.percent)]
    standings = await _standings(rows, chosen)
    going = [each for each, standing in zip(chosen, standings, strict=True) if standing is Standing.ACTIVE]
    trialing = standings.count(Standing.TRIALING)
    if not is_dry_run and going:
        await _move(rows, move, [records[each.row.id] for each in going])
    counts = len(eligible), len(going), trialing, len(chosen) - len(going) - trialing
    return Migration(move.old.ref, move.new.ref, "", *counts, is_dry_run), ids[-1] if len(ids) == BATCH else None


async def _standings(rows: Transaction, stored: Sequence[StoredContract]) -> list[Standing]:
    """Return what the plans of each make of it, whatever its payment or a suspension hides."""
    contracts = [contract_of(each) for each in stored]
    plans = await plans_of(rows, [ref for contract in contracts for ref in contract.plans])
    return [
        standing_by_plans(contract, plans, rows.now, each.row.first_used_at)
        for contract, each in zip(contracts, stored, strict=True)
    ]


async def _move(rows: Transaction, move: _Move, going: list[Subscription]) -> None:
    ids = [each.id for each in going]
    await rows.subscriptions.insert_changes([(each.id, _change(each, move, rows.now)) for each in going])
    await rows.subscriptions.touch(ids)
    for before, after in zip(going, await recompile(rows, ids), strict=True):
        rows.audit("subscription.migrate", before.id, as_json(before), as_json(after), move.reason)


def _change(subscription: Subscription, move: _Move, now: datetime) -> ChangeRecord:
    at = move.at or max(now, subscription.starts_at)
    return ChangeRecord(change_id(subscription.changes, now), at, move.new.ref, move.carry.value, now, None)


def _will_move(stored: StoredContract, move: _Move) -> bool:
    """Tell whether the same move has been scheduled already, so that running again does nothing twice."""
    return any(
        change.plan == move.new.ref and change.canceled_at is None and change.at == move.at for change in stored.changes
    )


async def _need_locked(rows: Transaction, ref: str, revision: int | None) -> PlanVersion:
    await rows.plans.lock(await need_version(rows, ref))
    version = await need_version(rows, ref)
    check_revision(revision, version.revision)
    return version


async def _set_state(
    rows: Transaction,
    before: PlanVersion,
    reason: str,
    action: str,
    ends: tuple[datetime | None, datetime | None],
) -> PlanVersion:
    """Set since when a version is deprecated and retired."""
    check_reason(reason)
    await rows.plans.set_state(before, *ends)
    after = await need_version(rows, before.ref)
    rows.audit(action, before.ref, _state(before), _state(after), reason)
    return after


def _state(version: PlanVersion) -> Json:
    """Return a version's representation without the document, which never changes."""
    return {name: value for name, value in version_as_json(version).items() if name != "document"}


def _check_percent(percent: Decimal) -> None:
    if not (percent.is_finite() and 0 <= percent <= 100 and percent * 100 == int(percent * 100)):  # noqa: PLR2004
        raise InputError("percent", f"{percent} is no share", "write 0 to 100, with at most two decimals")
