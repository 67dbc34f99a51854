"""Use cases of a running contract: another plan, terms of its own, credits.

Everything is kept: changes that have taken force, overrides that were replaced, and who wrote them. The
license is compiled from all of it, and knows every instant to come.
"""

import json
from datetime import datetime

from tallygate.admin.catalogue import need_offered
from tallygate.admin.desk import Desk, check_reason
from tallygate.admin.dossier import change_id, contract_of, need_locked, plans_of, recompile
from tallygate.admin.records import ChangeRecord, CreditRecord, Json, Subscription, as_json
from tallygate.admin.rows.subscriptions import StoredContract
from tallygate.admin.subscriptions import When, check_running, instant_of
from tallygate.admin.transaction import Transaction
from tallygate.core.errors import ConflictError, InputError, NotFoundError
from tallygate.core.ids import new_id
from tallygate.limits.limit import EXACT_INTEGER, LimitKind
from tallygate.plans.contract import Carry
from tallygate.plans.document import Plan
from tallygate.plans.overrides import known_of, overrides_to_document, parse_overrides
from tallygate.plans.problems import did_you_mean
from tallygate.plans.recent import PAST_KEPT, is_recent

_MOST_GRANTS = 1000
_MOST_AHEAD = 100
"""Each change to come is in the license, with all that its plan grants."""


class Contracts:
    """Change the plan of a subscription, override its terms, grant it credits."""

    def __init__(self, desk: Desk) -> None:
        """Work at `desk`."""
        self._desk = desk

    async def change(
        self,
        ref: str,
        plan: str,
        *,
        at: When = "now",
        carry: Carry = Carry.CARRY,
        reason: str = "",
        revision: int | None = None,
    ) -> Subscription:
        """Put a subscription on another plan version (`pro` means the newest that is offered) from `at` on.

        A trial ends with it. `carry` says what becomes of the units used in running periods. Raises
        ConflictError for a version that is not offered, a subscription that has ended by then, or one with a
        hundred changes ahead.
        """
        check_reason(reason)
        async with self._desk.transaction() as rows:
            stored, before = await need_locked(rows, ref, revision)
            check_running(stored.row, rows.now)
            version = await need_offered(rows, plan)
            takes_force_at = max(await instant_of(rows, stored.row, before, at), before.starts_at)
            if before.ends_at is not None and before.ends_at <= takes_force_at:
                raise ConflictError("at", f"{before.id} ends before", "choose an earlier instant, or take the end back")
            ahead = [each for each in before.changes if each.canceled_at is None and each.at > rows.now]
            if len(ahead) >= _MOST_AHEAD:
                raise ConflictError("change", f"{before.id} has {_MOST_AHEAD} changes ahead", "take some back first")
            made = ChangeRecord(
                change_id(before.changes, rows.now), takes_force_at, version.ref, carry.value, rows.now, None
            )
            await rows.subscriptions.insert_changes([(before.id, made)])
            return await _changed(rows, "subscription.change", before, reason)

    async def cancel_change(self, ref: str, *, reason: str = "", revision: int | None = None) -> Subscription:
        """Take back a change that lies ahead; raise ConflictError once it has taken force."""
        check_reason(reason)
        async with self._desk.transaction() as rows:
            owner = await rows.subscriptions.owner_of_change(ref)
            if owner is None:
                raise NotFoundError("change", f"there is no change {ref!r}", "see `tallygate subscriptions show`")
            _, before = await need_locked(rows, owner, revision)
            change = next(change for change in before.changes if change.id == ref)
            if change.canceled_at is not None:
                return before
            if change.at <= rows.now:
                raise ConflictError("change", f"{ref} has taken force", "change the plan again")
            await rows.subscriptions.cancel_change(ref)
            return await _changed(rows, "subscription.cancel_change", before, reason)

    async def override(
        self,
        ref: str,
        document: Json | str,
        *,
        source: str = "overrides",
        reason: str = "",
        revision: int | None = None,
    ) -> Subscription:
        """Give a subscription terms of its own, instead of any it had; an empty document takes them away.

        The document is a mapping, or its text in YAML or JSON, called `source` in messages. Raises
        InvalidOverridesError with everything that is wrong with it.
        """
        check_reason(reason)
        async with self._desk.transaction() as rows:
            stored, before = await need_locked(rows, ref, revision)
            check_running(stored.row, rows.now)
            _, table = await rows.plans.routes()
            asked = [route["feature"] for route in table["routes"] if route.get("feature")]
            known = known_of(await _plans(rows, stored, before), asked)
            text = document if isinstance(document, str) else json.dumps(document)
            overrides = overrides_to_document(parse_overrides(text, source, known))
            if overrides == (before.overrides or {}):
                return before
            await rows.subscriptions.insert_override(before.id, overrides, reason)
            return await _changed(rows, "subscription.override", before, reason)

    async def grant_credits(
        self,
        ref: str,
        limit: str,
        amount: int,
        *,
        expires_at: datetime | None = None,
        reason: str = "",
        revision: int | None = None,
    ) -> Subscription:
        """Add `amount` units to the balance of a credits limit, to be spent until `expires_at`."""
        check_reason(reason)
        if not 1 <= amount < EXACT_INTEGER:
            raise InputError("amount", f"{amount} cannot be granted", f"write 1 to {EXACT_INTEGER - 1}")
        async with self._desk.transaction() as rows:
            stored, before = await need_locked(rows, ref, revision)
            check_running(stored.row, rows.now)
            if expires_at is not None and expires_at <= rows.now:
                raise InputError("expires", "lies in the past", "choose an instant to come")
            counted = [grant for grant in contract_of(stored).grants if is_recent(grant, rows.now - PAST_KEPT)]
            if len(counted) >= _MOST_GRANTS:
                raise ConflictError("credits", f"{before.id} has {_MOST_GRANTS} grants", "grant more at once")
            _check_credits(await _plans(rows, stored, before), limit)
            made = CreditRecord(new_id("grt", rows.now), limit, amount, rows.now, expires_at)
            await rows.subscriptions.insert_credits(before.id, made, reason)
            return await _changed(rows, "subscription.grant_credits", before, reason)


async def _plans(rows: Transaction, stored: StoredContract, record: Subscription) -> list[Plan]:
    """Return the plans that a contract is or will be on, the one in force first."""
    refs = [record.plan, *contract_of(stored).plans]
    return list((await plans_of(rows, refs)).values())


def _check_credits(plans: list[Plan], name: str) -> None:
    found = {limit.name for plan in plans for limit in plan.limits if limit.kind is LimitKind.CREDITS}
    if name not in found:
        raise ConflictError("limit", f"there is no credits limit {name!r} in the plan", did_you_mean(name, found))


async def _changed(rows: Transaction, action: str, before: Subscription, reason: str) -> Subscription:
    await rows.subscriptions.touch([before.id])
    (after,) = await recompile(rows, [before.id])
    rows.audit(action, before.id, as_json(before), as_json(after), reason)
    return after
