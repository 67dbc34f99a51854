"""Credits over a whole life: what a balance was refilled with stays when the plan changes, and nothing comes twice.

A limit of a phase knows one refill, since one instant. So when the refill changes in the course of a life, what
came until then is written into the amount, and the new refill counts from there. Without this, whoever changes
to a plan with refills after a year would get a year's worth at once. Pure.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeAlias

from tallygate.licenses.license import Phase
from tallygate.limits.limit import EXACT_INTEGER, CountedPer, CreditRefill, Limit, LimitKind

_MOST = EXACT_INTEGER - 1

_Counter: TypeAlias = tuple[str, CountedPer, str]
"""What tells the counters of credits apart (see `limits.keys`): the limit's name, whose, and which set of them."""


@dataclass(frozen=True, slots=True)
class _Balance:
    """What came to a counter until its refill of now began, and that refill."""

    come: int = 0
    refill: CreditRefill | None = None

    def since(self, at: datetime, refill: CreditRefill | None) -> "_Balance":
        """Return the balance from `at` on, refilled as `refill` says but for its own start."""
        if self.refill is not None and refill == replace(self.refill, since_at=refill.since_at if refill else at):
            return self
        come = 0
        if self.refill is not None:
            calendar = self.refill.calendar
            come = self.refill.amount * (calendar.number_at(at) - calendar.number_at(self.refill.since_at))
        return _Balance(self.come + come, None if refill is None else replace(refill, since_at=at))

    def applied_to(self, limit: Limit) -> Limit:
        """Return `limit` with all that has come, and will come."""
        ceiling = None if limit.ceiling is None else min(limit.ceiling + self.come, _MOST)
        return replace(limit, amount=min(limit.amount + self.come, _MOST), ceiling=ceiling, refill=self.refill)


def with_refills(phases: Sequence[Phase]) -> list[Phase]:
    """Return the phases, each with what its credits were refilled with in the ones before."""
    balances: dict[_Counter, _Balance] = {}
    found: list[Phase] = []
    for phase in phases:
        refills = {_counter(phase, limit): limit.refill for limit in phase.grant.limits if _is_credits(limit)}
        for counter in balances.keys() | refills.keys():
            balances[counter] = balances.get(counter, _Balance()).since(phase.starts_at, refills.get(counter))
        limits = tuple(
            balances[_counter(phase, limit)].applied_to(limit) if _is_credits(limit) else limit
            for limit in phase.grant.limits
        )
        found.append(replace(phase, grant=replace(phase.grant, limits=limits)))
    return found


def _is_credits(limit: Limit) -> bool:
    return limit.kind is LimitKind.CREDITS


def _counter(phase: Phase, limit: Limit) -> _Counter:
    """Return which counter a limit has in a phase; a customer's is never begun afresh."""
    return limit.name, limit.per, "" if limit.per is CountedPer.CUSTOMER else phase.counters
