"""Use case of the usage ledger: put right what was counted, by an entry more. Nothing that was counted is changed.

Enforcement does not hear of it: counters and what is left of a quota stay as they are.
"""

import re
from collections.abc import Mapping
from datetime import datetime

from tallygate.admin.desk import Desk, check_reason
from tallygate.admin.dossier import contract_of, need_subscription, plans_of
from tallygate.admin.records import Correction, as_json
from tallygate.admin.rows.plans import split_ref
from tallygate.admin.transaction import Transaction
from tallygate.billing.home import minute_of
from tallygate.billing.life import life
from tallygate.core.errors import InputError
from tallygate.limits.keys import ALLOWED, OVERAGE
from tallygate.limits.limit import EXACT_INTEGER
from tallygate.plans.fields import NAME
from tallygate.usage.entry import CORRECTION, FIRST_MINUTE, UsageEntry, minute_at

_LONGEST = 500
_VERSION = re.compile(f"{NAME.pattern}@[1-9][0-9]{{0,8}}")
_OUTCOMES = (ALLOWED, OVERAGE)


class Corrections:
    """Correct the ledger."""

    def __init__(self, desk: Desk) -> None:
        """Work at `desk`."""
        self._desk = desk

    async def add(
        self,
        subscription: str,
        meter: str,
        quantity: int,
        *,
        reason: str,
        at: datetime | None = None,
        outcome: str = ALLOWED,
        plan: str | None = None,
        family: str = "",
        route: str = "",
    ) -> Correction:
        """Add `quantity` units of a meter (below 0 takes away) to a subscription's usage, in the minute of `at` (now).

        `plan` is the version they are counted under (`pro@3`), that in force then unless told. Raises NotFoundError
        for the subscription, InputError for what cannot be counted, or was not given a reason.
        """
        check_reason(reason)
        if not reason.strip():
            raise InputError("reason", "is missing", "say why the ledger is wrong: bills follow it")
        _check(meter, quantity, outcome, plan)
        _check_texts({"family": family, "route": route})
        async with self._desk.transaction() as rows:
            found = await need_subscription(rows, subscription)
            if plan is not None and await rows.plans.version(*split_ref(plan)) is None:
                raise InputError("plan", f"there is no {plan}", "choose a version that is: no bill charges others")
            began_at = minute_of(at or rows.now)
            if not minute_at(FIRST_MINUTE) <= began_at <= rows.now:
                raise InputError("at", "is no instant anything was counted at", "choose one that has gone by")
            entry = UsageEntry(
                customer=found.customer,
                subscription=found.id,
                family=family,
                plan=plan or await _plan_at(rows, found.id, began_at),
                meter=meter,
                route=route,
                outcome=outcome,
                entry=CORRECTION,
                minute_at=began_at,
                quantity=quantity,
            )
            correction = _correction(await rows.corrections.insert(entry, reason), entry, rows.now, reason)
            rows.audit("usage.correct", found.id, None, as_json(correction), reason)
        return correction


def _check(meter: str, quantity: int, outcome: str, plan: str | None) -> None:
    if not NAME.fullmatch(meter):
        raise InputError("meter", "is no meter's name", "name the one that was counted wrong, such as requests")
    if not 0 < abs(quantity) < EXACT_INTEGER:
        raise InputError("quantity", "cannot be counted", "write whole units, not 0, below 2**53; -5 takes 5 away")
    if outcome not in _OUTCOMES:
        raise InputError("outcome", f"{outcome!r} is not known", f"write {' or '.join(_OUTCOMES)}")
    if plan is not None and not _VERSION.fullmatch(plan):
        raise InputError("plan", f"{plan!r} is no plan version", "write it as pro@3")


def _check_texts(texts: Mapping[str, str]) -> None:
    for field, text in texts.items():
        if len(text) > _LONGEST or not (text.isprintable() or not text):
            raise InputError(field, "cannot be used", f"write at most {_LONGEST} printable characters")


async def _plan_at(rows: Transaction, subscription: str, at: datetime) -> str:
    """Return the version in force then, as bills have it; the last after the end, the first before the start."""
    (stored,) = await rows.subscriptions.get([subscription])
    contract = contract_of(stored)
    times = life(contract, await plans_of(rows, contract.plans), stored.row.first_used_at)
    begun = [each.plan for each in times if each.from_at <= at]
    return begun[-1] if begun else contract.plan


def _correction(number: int, entry: UsageEntry, now: datetime, reason: str) -> Correction:
    return Correction(
        number=number,
        customer=entry.customer,
        subscription=entry.subscription,
        family=entry.family,
        plan=entry.plan,
        meter=entry.meter,
        route=entry.route,
        outcome=entry.outcome,
        at=entry.minute_at,
        quantity=entry.quantity,
        reason=reason,
        recorded_at=now,
    )
