"""Which counters of a customer can be compared with the ledger, and since when.

A counter holds what was counted of its meter since its limit first counted in this way: under the same name, meter,
owner and calendar, on the same set of counters. Phases that differ in amounts alone do not matter. Overrides are put
into the terms as if they had always been there, so nothing before the last one is sure.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime

from tallygate.admin.rows.subscriptions import StoredContract
from tallygate.admin.rows.tokens import TokenScope
from tallygate.admin.transaction import Transaction
from tallygate.licenses.license import Phase
from tallygate.limits.limit import CountedPer, Limit, LimitKind
from tallygate.limits.limiter import Subject
from tallygate.usage.reconcile import EVER, NEVER, Account

_MOST_CONTRACTS, _MOST_TOKENS = 100, 200


async def accounts_of(rows: Transaction, customer: str) -> list[Account]:
    """Return the accounts of a customer: the quotas in force, those per token for the families of 200 tokens."""
    stored = await rows.subscriptions.get(await rows.subscriptions.ids(customer, None, "", _MOST_CONTRACTS))
    overridden = await rows.subscriptions.overridden_at([each.row.id for each in stored])
    lives = [_Life(each, rows.now, overridden.get(each.row.id, EVER)) for each in stored if each.terms is not None]
    found: list[Account] = []
    for life in lives:
        for limit in life.quotas():
            if limit.per is CountedPer.CUSTOMER:
                continue
            subjects = [life.subject("")]
            if limit.per is CountedPer.TOKEN:
                subjects = [life.subject(family) for family in await _families(rows, life.id)]
            found += (Account(limit, subject, life.since(limit)) for subject in subjects)
    return [*found, *_shared(customer, lives)]


async def _families(rows: Transaction, subscription: str) -> list[str]:
    """Return the token families of the oldest tokens of a subscription."""
    ids = await rows.tokens.ids(TokenScope(subscription=subscription), "", _MOST_TOKENS)
    return list(dict.fromkeys(token.family for token in await rows.tokens.get(ids)))


def _shared(customer: str, lives: Sequence["_Life"]) -> Iterator[Account]:
    """Return the accounts of limits on which all contracts count together: where one does not, nothing is sure."""
    seen = set()
    for limit in (limit for life in lives for limit in life.quotas() if limit.per is CountedPer.CUSTOMER):
        if limit.name not in seen:
            seen.add(limit.name)
            yield Account(limit, Subject(customer, "", ""), max(life.since(limit) for life in lives))


class _Life:
    """A contract's phases until now."""

    def __init__(self, stored: StoredContract, now: datetime, overridden_at: datetime) -> None:
        assert stored.terms is not None  # noqa: S101 - asked before
        self.id = stored.row.id
        self._row = stored.row
        self._now = now
        self._overridden_at = overridden_at
        self._present = stored.terms.phase_at(now, stored.row.first_used_at)
        begun = [phase for phase in stored.terms.timeline(stored.row.first_used_at) if phase.starts_at <= now]
        self._phases = begun or [self._present]

    def quotas(self) -> list[Limit]:
        """Return the quotas that are enforced now, none once the contract has ended."""
        is_over = self._row.ends_at is not None and self._row.ends_at <= self._now
        limits = () if is_over else self._present.grant.limits
        return [limit for limit in limits if limit.kind is LimitKind.QUOTA and not limit.is_shadow]

    def subject(self, family: str) -> Subject:
        """Return whose counters they are."""
        return Subject(self._row.customer, self.id, family, self._present.counters)

    def since(self, limit: Limit) -> datetime:
        """Return since when everything of this contract was counted on this limit, as it is counted now."""
        if self._row.ends_at is not None and self._row.ends_at <= self._now:
            return self._row.ends_at
        if self._row.starts_at > self._now:
            return EVER
        since_at = NEVER
        for phase in reversed(self._phases):
            if phase.counters != self._present.counters or not _counts_on(phase, limit):
                break
            since_at = phase.starts_at
        return max(EVER if since_at <= self._row.starts_at else since_at, self._overridden_at)


def _counts_on(phase: Phase, limit: Limit) -> bool:
    return any(_way(limit) == _way(each) and not each.is_shadow for each in phase.grant.limits)


def _way(limit: Limit) -> tuple[object, ...]:
    return limit.name, limit.kind, limit.meter, limit.per, limit.calendar
