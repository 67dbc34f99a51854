"""The port of the counters: acquire every limit of a request, or none.

Promises, the same for every adapter (tests/contract/test_limiter.py):

- one call is one atomic step: all charges are consumed, or, when a single enforced limit has no room,
  nothing at all is written;
- time is the counter store's own clock; callers cannot supply it;
- the same idempotency key within `IDEMPOTENCY_TTL_S`, by the same customer, is the same request: it is
  admitted again and consumes nothing more. A refused request may be tried again and is judged afresh;
- usage is counted in the same step, for admitted requests only;
- a request holds its concurrency limits until it is released, or their time has passed.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, Protocol

from tallygate.limits.limit import Limit

IDEMPOTENCY_TTL_S = 30


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

    `usage` are (meter, units) pairs for the ledger, each meter once; `route` is the rule's own text, for the same.
    `idempotency_key` is Envoy's `http.id`; None where there is none.
    """

    subject: Subject
    charges: tuple[Charge, ...]
    usage: tuple[tuple[str, int], ...] = ()
    route: str = ""
    idempotency_key: str | None = None


class LimitState(NamedTuple):
    """Where one limit stands after the call.

    `remaining` units of the amount at this moment, 0 in overage. `retry_after_s`: when `EXCEEDED`, seconds until
    this same request could pass on this limit; None when waiting does not help, for credits also when the
    next refill or grant is not enough. `reset_s`: seconds until more units become available; None when none
    ever will or the limit is full. Both rounded up; a concurrency limit may have room sooner.
    """

    limit: Limit
    outcome: LimitOutcome
    remaining: int
    retry_after_s: int | None
    reset_s: int | None


class Verdict(NamedTuple):
    """The answer for one acquisition; `states` in the order of its charges, `at_us` the store's time, µs since 1970."""

    is_admitted: bool
    is_repeat: bool
    states: tuple[LimitState, ...]
    at_us: int


class Limiter(Protocol):
    """Counters that are consumed all or none."""

    async def acquire(self, acquisition: Acquisition) -> Verdict:
        """Consume every charge or none.

        Raises LimiterUnavailableError when the store does not answer in time; whether it counted is then
        unknown, and the same idempotency key may be sent again.
        """
        ...

    async def peek(self, acquisition: Acquisition) -> Verdict:
        """Say what `acquire` would answer now, and change nothing."""
        ...

    async def release(self, subject: Subject, request_id: str) -> None:
        """End the request's holds on all its concurrency limits; nothing happens where it has none.

        `request_id` is the idempotency key it was acquired with. Releasing again is harmless. Raises
        LimiterUnavailableError when the store does not answer in time: the holds end by themselves.
        """
        ...

    async def first_used_at(self, subject: Subject, *, is_look: bool = False) -> datetime | None:
        """Return when the subject's subscription was first used: now, unless it was before.

        A look (`is_look`) does not count as use, and returns None when there was none. The instant is
        kept for good. Raises LimiterUnavailableError when the store does not answer in time.
        """
        ...
