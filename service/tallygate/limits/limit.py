"""What a limit is: a value with everything that enforcement needs, and nothing it has counted."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from tallygate.core.periods import Calendar

EXACT_INTEGER = 2**53
"""Lua numbers are doubles: every amount and every product we form must stay below this."""

MOST_BUCKETS = 1000
LONGEST_HOLD_S = 86_400


class LimitKind(StrEnum):
    """How a limit counts."""

    RATE = "rate"
    QUOTA = "quota"
    CREDITS = "credits"
    CONCURRENCY = "concurrency"


class CountedPer(StrEnum):
    """Whose consumption is added up."""

    CUSTOMER = "customer"
    SUBSCRIPTION = "subscription"
    TOKEN = "token"  # noqa: S105 - the token family, so that rotation never resets a counter


class OnExceed(StrEnum):
    """What happens to a request that goes over the amount."""

    DENY = "deny"
    OVERAGE = "overage"


class FailPolicy(StrEnum):
    """What a limit does while its counter store does not answer."""

    OPEN = "open"
    CLOSED = "closed"
    LOCAL = "local"


@dataclass(frozen=True, slots=True)
class CreditRefill:
    """A balance that grows: `amount` units at the start of each period of `calendar` after `since_at`."""

    amount: int
    calendar: Calendar
    since_at: datetime


@dataclass(frozen=True, slots=True)
class CreditBucket:
    """Units granted beside a balance: to be spent from `from_at` until `until_at` (None: for ever).

    Buckets are spent in order of their end, those without one after the others, and the plan's own balance
    last. What is left at a bucket's end is gone. `id` names the bucket's counter.
    """

    id: str
    amount: int
    from_at: datetime
    until_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit of a license.

    `amount` is in units of `meter`. A rate allows `amount` per `window_us` microseconds and `burst` units
    at once (GCRA, ITU-T I.371). A quota allows `amount` per period of `calendar`. Credits allow `amount`
    in all, more by `refill` and `buckets`. Concurrency allows `amount` at once, a request counting until it
    is released or `hold_s` seconds have passed. `ceiling` is the hard end of an overage in units, None for
    no end. A shadow limit counts beside the others and never decides. Of one that is leased, workers may take units
    ahead of need (`leases`); the burst of a leased rate is what is left once that is accounted for.
    """

    name: str
    kind: LimitKind
    amount: int
    meter: str = "requests"
    per: CountedPer = CountedPer.SUBSCRIPTION
    window_us: int = 0
    burst: int = 0
    calendar: Calendar | None = None
    on_exceed: OnExceed = OnExceed.DENY
    ceiling: int | None = None
    is_shadow: bool = False
    fail: FailPolicy = FailPolicy.CLOSED
    hold_s: int = 0
    refill: CreditRefill | None = None
    buckets: tuple[CreditBucket, ...] = ()
    is_leased: bool = False

    @property
    def admits_up_to(self) -> int | None:
        """Return the units at which requests are refused; None when an overage has no end."""
        return self.amount if self.on_exceed is OnExceed.DENY else self.ceiling


def unenforceable(limit: Limit) -> str | None:
    """Say why a limit cannot be counted exactly, None if it can; a plan with such a limit must be refused."""
    if not _is_exact(limit.amount) or not _is_exact(limit.ceiling or 0):
        return _AMOUNTS
    match limit.kind:
        case LimitKind.RATE:
            return _uneven(limit)
        case LimitKind.QUOTA:
            return "a quota needs a calendar" if limit.calendar is None else None
        case LimitKind.CREDITS:
            return _unspendable(limit)
        case LimitKind.CONCURRENCY:
            is_held = 1 <= limit.hold_s <= LONGEST_HOLD_S
            return None if is_held else f"a request is held from 1 to {LONGEST_HOLD_S} seconds"


_AMOUNTS = "amounts are whole, at least 0 and below 2**53"


def _is_exact(units: int) -> bool:
    return 0 <= units < EXACT_INTEGER


def _uneven(limit: Limit) -> str | None:
    if limit.amount < 1 or limit.window_us < 1:
        return "a rate allows at least 1 per window; a quota of 0 refuses everything"
    if not _is_exact(limit.burst * limit.window_us):
        return "burst times window in microseconds must stay below 2**53: take a smaller burst or a shorter window"
    return None


def _unspendable(limit: Limit) -> str | None:
    granted = [bucket.amount for bucket in limit.buckets] + ([limit.refill.amount] if limit.refill else [])
    if not all(map(_is_exact, granted)):
        return _AMOUNTS
    if len(limit.buckets) > MOST_BUCKETS:
        return f"credits have at most {MOST_BUCKETS} grants"
    if len({bucket.id for bucket in limit.buckets}) < len(limit.buckets):
        return "each grant of credits needs an id of its own"
    if any(bucket.until_at is not None and bucket.until_at <= bucket.from_at for bucket in limit.buckets):
        return "a grant of credits ends after it begins"
    return None
