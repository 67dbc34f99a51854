"""Settling one request: from how it ended, or what its upstream says, to its counters and the ledger.

Owns the order: receipt, what the request comes to, one amendment, and the end of its holds. Does not own what an
outcome means (`decision/outcomes`) nor the amendment (`limits/amendment`). Failure: LimiterUnavailableError when the
counters do not answer; settling again is safe.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum

from tallygate.core.errors import InputError
from tallygate.decision.outcomes import Entry, Outcome, may_change, truth_of, with_ancestors
from tallygate.licenses.routes import RouteTable
from tallygate.limits.amendment import Amendment, AmendOutcome
from tallygate.limits.limiter import Limiter, Subject
from tallygate.limits.receipt import Receipt, amendment

MOST_UNITS = 10**12
"""Of one request or report in one meter: what it comes to, the meters above included, stays far below 2**53."""


class Settled(StrEnum):
    """How the settling of a request went: the label `result` of `tallygate_outcomes_total`."""

    SETTLED = "settled"
    REFUNDED = "refunded"
    REPEATED = "repeated"
    UNKNOWN = "unknown"
    NONE = "none"


_DONE = {Entry.SETTLEMENT: Settled.SETTLED, Entry.REFUND: Settled.REFUNDED}
_NOT_DONE = {AmendOutcome.REPEATED: Settled.REPEATED, AmendOutcome.UNKNOWN: Settled.UNKNOWN}


class Settling:
    """Settles requests by their receipts, under the route rules in force."""

    def __init__(self, limiter: Limiter, routes: Callable[[], RouteTable]) -> None:
        """Amend in `limiter`; `routes` returns the rules, or raises StoreUnavailableError before they are known."""
        self._limiter = limiter
        self._routes = routes

    async def by_outcome(self, outcome: Outcome) -> Settled:
        """Settle a request by how it ended, as far as that says anything, and end its holds."""
        settled = await self._amended(outcome)
        # Of a receipt only the customer and the request are known, and no more is needed.
        await self._limiter.release(Subject(outcome.customer, "", ""), outcome.receipt)
        return settled

    async def by_report(self, customer: str, receipt_id: str, units: Mapping[str, int]) -> Settled:
        """Settle a request by the units its upstream tells; raise InputError for a meter it was not charged in."""
        receipt = await self._limiter.receipt(customer, receipt_id)
        if receipt is None:
            return await self._why_none(customer, receipt_id)
        _refuse_strange(units, receipt.charged)
        actual = with_ancestors(units, receipt.charged, self._routes().meters)
        return await self._amend(receipt, actual, Entry.SETTLEMENT)

    async def _amended(self, outcome: Outcome) -> Settled:
        routes = self._routes()
        rule = routes.by_text(outcome.route)
        if rule is None or not may_change(outcome, rule):
            return Settled.NONE
        receipt = await self._limiter.receipt(outcome.customer, outcome.receipt)
        if receipt is None:
            return await self._why_none(outcome.customer, outcome.receipt)
        truth = truth_of(outcome, rule, receipt.charged, routes.meters)
        return Settled.NONE if truth is None else await self._amend(receipt, truth.units, truth.entry)

    async def _amend(self, receipt: Receipt, actual: Mapping[str, int], entry: Entry) -> Settled:
        told = await self._limiter.amend(amendment(receipt, actual, entry.value))
        return _NOT_DONE.get(told, _DONE[entry])

    async def _why_none(self, customer: str, receipt_id: str) -> Settled:
        """Ask, by an amendment of nothing, whether the receipt that is not there was settled before."""
        nothing = Amendment(customer, receipt_id, "", "", "", "", Entry.SETTLEMENT.value, 0, (), ())
        return _NOT_DONE.get(await self._limiter.amend(nothing), Settled.UNKNOWN)


def _refuse_strange(units: Mapping[str, int], charged: Mapping[str, int]) -> None:
    if not units:
        raise InputError("units", "is empty", "give the true units of at least one meter")
    for meter, count in sorted(units.items()):
        if meter not in charged:
            raise InputError(f"units[{meter}]", "the request was not charged in it", f"it was in {', '.join(charged)}")
        if count > MOST_UNITS:
            raise InputError(f"units[{meter}]", f"{count} is too many for one request", f"at most {MOST_UNITS}")
