"""The License: the compiled, immutable answer to "what may this token do".

Terms belong to a subscription and are shared by all its tokens; a License adds what is the token's own.
Time is never baked in: the phases of a subscription are data that the decision compares with its clock, so
trials end, grace runs out and changes take effect on time with the control plane and Postgres down.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network

from tallygate.limits.limit import Limit

Feature = bool | int | float | str


class CustomerStatus(StrEnum):
    """The state of who pays."""

    ACTIVE = "active"
    PAST_DUE = "past_due"
    SUSPENDED = "suspended"
    CLOSED = "closed"


class Standing(StrEnum):
    """The status of a subscription in one phase of its life."""

    SCHEDULED = "scheduled"
    TRIALING = "trialing"
    ACTIVE = "active"
    GRACE = "grace"
    SUSPENDED = "suspended"
    CANCELED = "canceled"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Grant:
    """What a plan version, with the contract's overrides, allows.

    `plan` is `pro@3`, `plan_key` is `pro` (the bounded metric label). `upgrade_url` goes into refusals that
    a larger plan would have allowed.
    """

    plan: str
    plan_key: str
    scopes: frozenset[str]
    features: dict[str, Feature]
    limits: tuple[Limit, ...]
    upgrade_url: str | None = None


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of a subscription's life: from `starts_at` until the next phase starts.

    `is_unpaid`: suspended because payment failed and the grace is over. `counters` is empty, or an id of
    its own for counters that began afresh at a change (`carry: reset`).
    """

    starts_at: datetime
    standing: Standing
    grant: Grant
    is_unpaid: bool = False
    counters: str = ""


@dataclass(frozen=True, slots=True)
class FirstUseTrial:
    """A trial that begins with the first request that is allowed, and lasts `lasts_s` seconds from there.

    `then` are the phases as they are once it is over; the last that begins by now is in force. `until_at` is
    when a change of plan ends the trial before its time, None where none does.
    """

    lasts_s: int
    then: tuple[Phase, ...]
    until_at: datetime | None = None

    def is_over(self, now: datetime, first_used_at: datetime) -> bool:
        """Tell whether the trial has run out, and not been ended before by a change."""
        over_at = first_used_at + timedelta(seconds=self.lasts_s)
        return over_at <= now and (self.until_at is None or over_at <= self.until_at)


@dataclass(frozen=True, slots=True)
class Terms:
    """Everything a subscription will be, compiled: its phases in order, each with what it grants.

    The first phase also stands for all time before it. `first_use` is set while a trial waits for its
    first request; `shadow` is what another version would grant, counted beside and never deciding.
    """

    phases: tuple[Phase, ...]
    first_use: FirstUseTrial | None = None
    shadow: Grant | None = None

    def phase_at(self, now: datetime, first_used_at: datetime | None = None) -> Phase:
        """Return the phase in force at `now`, given when the subscription was first used, if it was."""
        trial = self.first_use
        is_over = trial is not None and first_used_at is not None and trial.is_over(now, first_used_at)
        return _in_force(trial.then if trial is not None and is_over else self.phases, now)


def _in_force(phases: tuple[Phase, ...], now: datetime) -> Phase:
    found = phases[0]
    for phase in phases:
        if phase.starts_at > now:
            break
        found = phase
    return found


@dataclass(frozen=True, slots=True)
class License:
    """What one token may do.

    `scopes` None means all of the plan's. `networks` empty means from anywhere. `revoked_at` may lie in
    the future: a rotated token works until then. `generation` is the change sequence its terms were
    compiled at (see `store`).
    """

    customer: str
    customer_status: CustomerStatus
    subscription: str
    family: str
    token: str
    terms: Terms
    generation: int
    scopes: frozenset[str] | None = None
    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    not_before_at: datetime | None = None
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    disabled_at: datetime | None = None

    def scopes_under(self, grant: Grant) -> frozenset[str]:
        """Return the token's scopes as far as `grant` still has them."""
        return grant.scopes if self.scopes is None else self.scopes & grant.scopes
