"""What one worker holds of a kind of request: the slab it spends from, the one ahead, and how fast they go.

A kind is a token's requests of a route rule under the present license: the same charges, subject and usage, the same
objects, for each request of it. Owns the plain numbers a decision in memory needs. Does not own when slabs are taken
and settled (`leased`), nor on what terms (`leases`). For one event loop; time is the caller's monotonic clock.
"""

from dataclasses import replace
from typing import TypeAlias

from tallygate.limits.amendment import Amendment
from tallygate.limits.journal import Entry
from tallygate.limits.leases import (
    RATE_LEASE_US,
    lease_terms,
    may_lease,
    period_ends,
    slab_request,
    slab_size,
)
from tallygate.limits.limit import EXACT_INTEGER, Limit, LimitKind
from tallygate.limits.limiter import Acquisition, Charge, LimitOutcome, LimitState, Verdict

_SECOND_US, _MINUTE_US = 1_000_000, 60_000_000
_LIFE_S, _HORIZON_S = 1.0, 0.5
# A tenth less than the terms allow, for clocks that do not run alike.
_RATE_LIFE_S, _RATE_HORIZON_S = 0.9 * RATE_LEASE_US / _SECOND_US, 0.1
_MARGIN_S = 0.02
_OK = LimitOutcome.OK
_made = tuple.__new__

_Told: TypeAlias = tuple[Limit, int, int, int, int | None]
"""Of a charge: limit, cost, units left when the last slab was granted, the most there can be, the reset told then."""


class Slab:
    """So many requests, paid for; `left` may be spent until `ends_s`."""

    __slots__ = ("_size", "at", "counts", "ends_s", "entry", "left", "low", "terms")

    def __init__(
        self, kind: "Kind", terms: Amendment, entry: Entry, size: int, *, sent_s: float, granted_us: int
    ) -> None:
        """Take what was granted at `granted_us` by Redis's clock, and asked for no later than at `sent_s`.

        Redis's time is at most `granted_us` and what has passed since `sent_s`: by that the slab ends with its minute
        and its periods. `terms` are those of that instant; `counts[at]` is to be what is left, before anybody hears.
        """
        self.terms, self.entry = terms, entry
        self.counts, self.at = entry.counts, entry.at
        self._size = self.left = size
        self.low = size // 2
        edges_us = (end_us or EXACT_INTEGER for end_us in kind.period_ends(granted_us))
        edge_us = min((terms.minute + 1) * _MINUTE_US, *edges_us)
        self.ends_s = sent_s + min(kind.life_s, (edge_us - granted_us) / _SECOND_US - _MARGIN_S)

    @property
    def spent(self) -> int:
        """Return the requests that were spent."""
        return self._size - self.left

    def is_good(self, now_s: float) -> bool:
        """Say whether a request may be spent now."""
        return self.left > 0 and now_s < self.ends_s


class Kind:
    """A kind of request, in use by one worker.

    `slab` is spent from, `ahead` follows it. `asked` counts requests since the pace was last taken. No slab is taken
    until `waits_until_s`. `mark` stands for requests of this kind that were asked for one by one.
    """

    __slots__ = (
        "_asking", "_ends_from_us", "_ends_us", "_heard_s", "_heard_us", "_pace", "_remaining", "_since_s", "_terms",
        "_terms_end_us", "_told", "_told_s", "_told_us", "acquisition", "ahead", "asked", "horizon_s", "is_leased",
        "is_taking", "life_s", "mark", "slab", "waits_until_s",
    )  # fmt: skip

    def __init__(self, acquisition: Acquisition, now_s: float) -> None:
        """Begin without a slab."""
        self.acquisition = acquisition
        self.is_leased = may_lease(acquisition)
        has_rate = any(charge.limit.kind is LimitKind.RATE for charge in acquisition.charges)
        self.life_s, self.horizon_s = (_RATE_LIFE_S, _RATE_HORIZON_S) if has_rate else (_LIFE_S, _HORIZON_S)
        self.slab: Slab | None = None
        self.ahead: Slab | None = None
        self.is_taking = False
        self.asked = 0
        self.mark = object()
        self.waits_until_s = 0.0
        self._pace, self._since_s = 0.0, now_s
        self._remaining: list[int] = []
        self._heard_us, self._heard_s = 0, now_s
        self._told: list[_Told] = []
        self._told_us, self._told_s = 0, now_s
        self._asking: dict[int, Acquisition] = {}
        self._ends_us: tuple[int, ...] = ()
        self._ends_from_us = 0
        self._terms: Amendment | None = None
        self._terms_end_us: tuple[int, ...] = ()

    def is_of(self, acquisition: Acquisition) -> bool:
        """Say whether this is that acquisition's kind, whatever the request's id."""
        own = self.acquisition
        return (
            own.charges is acquisition.charges
            and own.subject is acquisition.subject
            and own.usage is acquisition.usage
            and own.route is acquisition.route
            and own.plan is acquisition.plan
            and own.receipt_s == acquisition.receipt_s
        )

    def hear(self, verdict: Verdict, now_s: float) -> None:
        """Learn from the store's verdict on any request of this kind, which has just come."""
        self._remaining = [state.remaining for state in verdict.states]
        self._heard_us, self._heard_s = verdict.at_us, now_s

    def wanted(self, now_s: float, workers: int) -> int:
        """Return how many requests to take ahead, 0 for none."""
        if self.is_taking or self.ahead is not None or now_s < self.waits_until_s or not self._remaining:
            return 0
        return slab_size(self._demand(now_s), self.acquisition.charges, self._remaining, workers)

    def asking(self, size: int, lease: str) -> Acquisition:
        """Return what takes a slab of this size under an id. Sizes are few, and each is made once."""
        made = self._asking.get(size)
        if made is None:
            made = self._asking[size] = slab_request(self.acquisition, size)
        return made._replace(idempotency_key=lease)

    def keep(self, slab: Slab, verdict: Verdict, now_s: float) -> None:
        """Have a slab that was granted just now by this verdict."""
        self.hear(verdict, now_s)
        self._told_us, self._told_s = verdict.at_us, now_s
        self._told = [
            (charge.limit, charge.cost, state.remaining, _most(charge), state.reset_s)
            for charge, state in zip(self.acquisition.charges, verdict.states, strict=True)
        ]
        if self.slab is None:
            self.slab = slab
        else:
            self.ahead = slab

    def turn(self, now_s: float) -> list[Slab]:
        """Go on to a slab that can be spent from, if there is one; return those that are over."""
        over: list[Slab] = []
        while self.slab is not None and not self.slab.is_good(now_s):
            over.append(self.slab)
            self.slab, self.ahead = self.ahead, None
        return over

    def verdict(self, now_s: float, *, is_repeat: bool) -> Verdict:
        """Return the admission of a request out of a slab: what Redis said last, and what is left here added."""
        left = 0 if self.slab is None else self.slab.left
        if self.ahead is not None:
            left += self.ahead.left
        states = [
            # As LimitState(...) does, without the call in between: this runs for every limit of every request.
            _made(LimitState, (limit, _OK, min(remaining + left * cost, most), None, reset_s, 0))
            for limit, cost, remaining, most, reset_s in self._told
        ]
        at_us = self._told_us + int((now_s - self._told_s) * _SECOND_US)
        return Verdict(True, is_repeat, tuple(states), at_us)  # noqa: FBT003 - the fields of a named tuple

    def period_ends(self, at_us: int) -> tuple[int, ...]:
        """Return when the period of each charge is over, 0 for one that has none; remembered while they last."""
        if not self._ends_us or not self._ends_from_us <= at_us < min(
            filter(None, self._ends_us), default=EXACT_INTEGER
        ):
            self._ends_us, self._ends_from_us = period_ends(self.acquisition, at_us), at_us
        return self._ends_us

    def terms(self, lease: str, at_us: int) -> Amendment:
        """Return the terms of a slab that is granted at an instant of Redis's; remembered while they last."""
        ends_us, minute = self.period_ends(at_us), at_us // _MINUTE_US
        made = self._terms
        if made is None or made.minute != minute or self._terms_end_us is not ends_us:
            made = self._terms = lease_terms(self.acquisition, lease, ends_us=ends_us, minute=minute)
            self._terms_end_us = ends_us
        return replace(made, id=lease)

    def store_us(self, at_s: float) -> int:
        """Return Redis's time at an instant, as far as is known: it may be later. A grant asked for then is no older.

        So if its reply is not heard, a period that began since gets nothing back.
        """
        return self._heard_us + int((at_s - self._heard_s) * _SECOND_US)

    def _demand(self, now_s: float) -> float:
        """Return how many requests a horizon brings, as far as that was seen."""
        took_s = now_s - self._since_s
        if took_s < self.horizon_s:
            return max(self._pace, self.asked)
        self._pace = self.asked * self.horizon_s / took_s
        self._since_s, self.asked = now_s, 0
        return self._pace


def _most(charge: Charge) -> int:
    return charge.limit.burst if charge.limit.kind is LimitKind.RATE else EXACT_INTEGER
