"""Everything about a subscription in one place: what is stored, what it is compiled from, what people see.

Owns the way from rows to a `Contract`, from a contract to its license, and from a license to the record.
Does not own the rules of compiling (`plans/compile`) nor what a use case changes. Many subscriptions are
read and compiled together, so that moving thousands takes few queries.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from tallygate.admin.catalogue import need_version
from tallygate.admin.desk import check_revision
from tallygate.admin.records import ChangeRecord, PhaseAhead, Subscription
from tallygate.admin.rows.subscriptions import StoredContract
from tallygate.admin.transaction import Transaction
from tallygate.core.errors import NotFoundError
from tallygate.core.ids import new_id
from tallygate.licenses.license import Phase, Standing, Terms
from tallygate.plans.codec import plan_from_document
from tallygate.plans.contract import Carry, Contract, CreditGrant, PlanChange
from tallygate.plans.document import Plan
from tallygate.plans.overrides import overrides_from_document
from tallygate.plans.recent import PAST_KEPT, compile_since

_CANCELED = Standing.CANCELED.value
_MILLISECOND = timedelta(milliseconds=1)


def contract_of(stored: StoredContract, shadows: Mapping[str, str] | None = None) -> Contract:
    """Return what a subscription's license depends on; `shadows` are the versions tried, by the one they are beside."""
    row = stored.row
    return Contract(
        customer=row.customer,
        plan=row.plan,
        anchor_at=row.anchor_at,
        timezone=row.timezone,
        starts_at=row.starts_at,
        ends_at=row.ends_at,
        suspended_at=row.suspended_at,
        past_due_at=stored.past_due_at,
        trial_to=row.trial_to,
        changes=tuple(
            PlanChange(change.id, change.at, change.plan, Carry(change.carry))
            for change in stored.changes
            if change.canceled_at is None
        ),
        overrides=overrides_from_document(stored.overrides or {}),
        grants=tuple(
            CreditGrant(grant.id, grant.limit, grant.amount, grant.at, grant.expires_at) for grant in stored.credits
        ),
        shadows=shadows or {},
    )


async def plans_of(rows: Transaction, refs: Sequence[str]) -> dict[str, Plan]:
    """Return the plans of these versions by their names."""
    return {ref: plan_from_document((await need_version(rows, ref)).document) for ref in dict.fromkeys(refs)}


async def compiled(rows: Transaction, stored: Sequence[StoredContract]) -> dict[str, Terms]:
    """Return what these subscriptions come to, by their ids, from a little before now on."""
    shadows = await rows.plans.running_shadows()
    contracts = {each.row.id: contract_of(each, shadows) for each in stored}
    plans = await plans_of(rows, [ref for contract in contracts.values() for ref in contract.plans])
    since_at = rows.now - PAST_KEPT
    return {owner: compile_since(since_at, contract, plans) for owner, contract in contracts.items()}


async def read_all(rows: Transaction, subscription_ids: Sequence[str]) -> list[Subscription]:
    """Return the records of these subscriptions, in order of creation."""
    return [record_of(each, rows.now) for each in await rows.subscriptions.get(subscription_ids)]


async def need_subscription(rows: Transaction, ref: str) -> Subscription:
    """Return the subscription with this id; raise NotFoundError."""
    return record_of(await _need_stored(rows, ref), rows.now)


async def need_locked(rows: Transaction, ref: str, revision: int | None) -> tuple[StoredContract, Subscription]:
    """Return a subscription nobody else changes until the end; raise NotFoundError, or ConflictError by revision."""
    await rows.subscriptions.lock([ref])
    stored = await _need_stored(rows, ref)
    check_revision(revision, stored.row.revision)
    return stored, record_of(stored, rows.now)


async def recompile(
    rows: Transaction, subscription_ids: Sequence[str], subject: str | None = None
) -> list[Subscription]:
    """Compile subscriptions anew from their rows and announce it; return what they are now.

    They must be locked. Each is a change of its own, unless all are the change of one `subject`.
    """
    stored = await rows.subscriptions.get(subscription_ids)
    terms = await compiled(rows, stored)
    for each in stored:
        rows.changed(subject or each.row.id, {each.row.id: terms[each.row.id]})
    return [record_of(each, rows.now, terms[each.row.id]) for each in stored]


def change_id(changes: Sequence[ChangeRecord], now: datetime) -> str:
    """Return the id of a change to come after all `changes` of its subscription.

    Of two changes for one instant the one with the greater id counts, and two may be made within the
    millisecond that ids are told apart by: each begins at least a millisecond after the one before.
    """
    latest = max([now, *(change.created_at for change in changes)])
    return new_id("chg", latest + len(changes) * _MILLISECOND)


def record_of(stored: StoredContract, now: datetime, terms: Terms | None = None) -> Subscription:
    """Return what people see of a subscription at `now`, by `terms` or those that are stored."""
    row, terms = stored.row, terms or stored.terms
    if terms is None:
        message = f"{row.id} was never compiled"
        raise ValueError(message)
    phase = terms.phase_at(now, row.first_used_at)
    ahead = _ahead(phase, terms.timeline(row.first_used_at), now)
    until = ahead[0].at if ahead else None
    never_ran = row.ends_at is not None and row.ends_at <= row.starts_at
    return Subscription(
        id=row.id,
        customer=row.customer,
        plan=phase.grant.plan,
        environment=row.environment,
        status=_CANCELED if never_ran else phase.standing.value,
        anchor_at=row.anchor_at,
        timezone=row.timezone,
        starts_at=row.starts_at,
        ends_at=row.ends_at,
        created_at=row.created_at,
        updated_at=row.updated_at,
        pinned=row.plan,
        trial_to=row.trial_to,
        first_used_at=row.first_used_at,
        trial_ends_at=until if phase.standing is Standing.TRIALING else None,
        grace_until=until if phase.standing is Standing.GRACE else None,
        suspended_at=row.suspended_at,
        phases=ahead,
        changes=stored.changes,
        overrides=stored.overrides,
        credits=stored.credits,
        shadow=None if phase.shadow is None else phase.shadow.plan,
        revision=row.revision,
    )


def _ahead(present: Phase, timeline: Sequence[Phase], now: datetime) -> tuple[PhaseAhead, ...]:
    """Return what is to come after `present`, without steps in which neither status nor plan changes."""
    last = _visible(present)
    found: list[PhaseAhead] = []
    for phase in timeline:
        if phase.starts_at > now and _visible(phase) != last:
            last = _visible(phase)
            found.append(PhaseAhead(phase.starts_at, *last))
    return tuple(found)


def _visible(phase: Phase) -> tuple[str, str]:
    return phase.standing.value, phase.grant.plan


async def _need_stored(rows: Transaction, ref: str) -> StoredContract:
    found = await rows.subscriptions.get([ref])
    if not found:
        raise NotFoundError("subscription", f"there is no subscription {ref!r}", "see `tallygate subscriptions list`")
    return found[0]
