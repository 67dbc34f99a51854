"""The port of the counters: acquire every limit of a request, or none.

Promises, the same for every adapter (tests/contract/test_limiter.py):

- one call is one atomic step: all charges are consumed, or, when a single enforced limit has no room,
  nothing at all is written;
- time is the counter store's own clock; callers cannot supply it;
- the same idempotency key within `IDEMPOTENCY_TTL_S` (or what the first says), by the same customer, is the same
  request: it is admitted again and consumes nothing more. A refused request may be tried again and is judged afresh;
- usage is counted in the same step, for admitted requests only;
- a request holds its concurrency limits until it is released, or their time has passed;
- a receipt is left in the same step, and what it says was charged is amended once at most.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, Protocol

from tallygate.limits.amendment import Amendment, AmendOutcome
from tallygate.limits.limit import Limit
from tallygate.limits.receipt import Receipt

IDEMPOTENCY_TTL_S = 30
REPORT_TTL_S = 86_400
"""A report is known again by its idempotency key for a day."""


class LimitOutcome(StrEnum):
    """What one limit says of a request."""

    OK = "ok"
    EXCEEDED = "exceeded"
    OVERAGE = "overage"
    SHADOW_EXCEEDED = "shadow_exceeded"


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose counters: ids that survive plan changes and rotation.

    `counters` is empty, or names the set of counters a subscription began afresh with (`carry: reset`):
    those of subscription and tokens, but neither the customer's nor granted credits.
    """

    customer: str
    subscription: str
    family: str
    counters: str = ""


class Charge(NamedTuple):
    """A limit and the units this request costs on it; 0 looks without spending."""

    limit: Limit
    cost: int


class Acquisition(NamedTuple):
    """Everything one request consumes. A named tuple, as what it comes to: one of each is made for every request.

    `usage` are (meter, units) pairs for the ledger, each meter once; `route` is the rule's own text, `plan` the
    version (`pro@3`), for the same. `idempotency_key` is Envoy's `http.id`, or any that is the request's alone; None
    where there is none.

    Where `receipt_s` is not 0 an admission leaves a receipt under that key, which cannot be None then; it can be
    amended for so many seconds. `unsettled` has what each of these meters comes to if nobody does; what others were
    charged stands. An admission is known by its key for `known_s` seconds.

    `degraded_minute` is of reports only: the minute since 1970 in which this was admitted without the counters. Its
    usage belongs to that, as entry `degraded`.
    """

    subject: Subject
    charges: tuple[Charge, ...]
    usage: tuple[tuple[str, int], ...] = ()
    route: str = ""
    idempotency_key: str | None = None
    plan: str = ""
    receipt_s: int = 0
    unsettled: tuple[tuple[str, int], ...] = ()
    known_s: int = IDEMPOTENCY_TTL_S
    degraded_minute: int | None = None


class LimitState(NamedTuple):
    """Where one limit stands after the call.

    `remaining` units of the amount at this moment, 0 in overage. `retry_after_s`: when `EXCEEDED`, seconds until
    this same request could pass on this limit; None when waiting does not help, for credits also when the
    next refill or grant is not enough. `reset_s`: seconds until more units become available; None when none
    ever will or the limit is full. Both rounded up; a concurrency limit may have room sooner. `over` units of this
    request, where it was in `OVERAGE` and is no repeat, lie beyond the amount: the ledger has them as overage.
    """

    limit: Limit
    outcome: LimitOutcome
    remaining: int
    retry_after_s: int | None
    reset_s: int | None
    over: int = 0


class Verdict(NamedTuple):
    """The answer for one acquisition; `states` in the order of its charges, `at_us` the store's time, µs since 1970."""

    is_admitted: bool
    is_repeat: bool
    states: tuple[LimitState, ...]
    at_us: int


class Acquirer(Protocol):
    """What a decision asks of the counters: they are consumed all or none."""

    async def acquire(self, acquisition: Acquisition) -> Verdict:
        """Consume every charge or none.

        Raises LimiterUnavailableError when the store does not answer in time; whether it counted is then
        unknown, and the same idempotency key may be sent again.
        """
        ...

    async def peek(self, acquisition: Acquisition) -> Verdict:
        """Say what `acquire` would answer now, and change nothing."""
        ...

    async def first_used_at(self, subject: Subject, *, is_look: bool = False) -> datetime | None:
        """Return when the subject's subscription was first used: now, unless it was before.

        A look (`is_look`) does not count as use, and returns None when there was none. The instant is
        kept for good. Raises LimiterUnavailableError when the store does not answer in time.
        """
        ...


class Limiter(Acquirer, Protocol):
    """Counters, and all that may happen to them."""

    async def report(self, acquisition: Acquisition) -> Verdict:
        """Consume every charge whether it fits or not: it has happened; counted as entry `report`.

        Always admitted; `EXCEEDED` tells of a limit that would have refused. What lies beyond an enforced amount is
        overage. Concurrency is not looked at, no receipt is left. The idempotency key is the reporter's own, known for
        `REPORT_TTL_S` and apart from those of requests. Raises ValueError without one, LimiterUnavailableError as
        `acquire` does.
        """
        ...

    async def receipt(self, customer: str, receipt_id: str) -> Receipt | None:
        """Return the receipt that a request of this customer left; None when there is none, or it was settled.

        One whose time is over is returned while it waits to be given back (`Receipt.unsettled`). Raises
        LimiterUnavailableError when the store does not answer in time.
        """
        ...

    async def amend(self, amendment: Amendment) -> AmendOutcome:
        """Change what was charged, and count the difference as usage, once.

        `REPEATED`: it was done before, or another amendment of the same receipt was. `UNKNOWN`: there is no such
        receipt, or its time is over. Both change nothing. Raises LimiterUnavailableError when the store does not
        answer in time; whether it was done is then unknown, and it may be sent again.
        """
        ...

    async def release(self, subject: Subject, request_id: str) -> None:
        """End the request's holds on all its concurrency limits; nothing happens where it has none.

        `request_id` is the idempotency key it was acquired with. Releasing again is harmless. Raises
        LimiterUnavailableError when the store does not answer in time: the holds end by themselves.
        """
        ...
