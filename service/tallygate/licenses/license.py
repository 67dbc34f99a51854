"""The License: the compiled, immutable answer to "what may this token do".

Terms belong to a subscription and are shared by all its tokens; a License adds what is the token's own.
Time is never baked in: the phases of a subscription are data that the decision compares with its clock, so
trials end, grace runs out and changes take effect on time with the control plane and Postgres down.
"""

from dataclasses import dataclass, replace
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


def limit_ref(plan: str, limit: str) -> str:
    """Return how a limit of a plan version is called among those of others: `pro@3:burst`."""
    return f"{plan}:{limit}"


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of a subscription's life: from `starts_at` until the next phase starts.

    `is_unpaid`: suspended because payment failed and the grace is over. `counters` is empty, or an id of
    its own for counters that began afresh at a change (`carry: reset`). `shadow` is what the version tried
    beside the plan of this phase would grant, counted beside and never deciding.
    """

    starts_at: datetime
    standing: Standing
    grant: Grant
    is_unpaid: bool = False
    counters: str = ""
    shadow: Grant | None = None


@dataclass(frozen=True, slots=True)
class FirstUseTrial:
    """A trial that begins with the first request that is allowed, and lasts `lasts_s` seconds from there.

    `then` are the phases as they are once it is over; the last that begins by now is in force. `until_at` is
    when a change of plan ends the trial before its time, None where none does.
    """

    lasts_s: int
    then: tuple[Phase, ...]
    until_at: datetime | None = None

    def over_at(self, first_used_at: datetime) -> datetime | None:
        """Return when the trial runs out; None when a change ends it before."""
        over_at = first_used_at + timedelta(seconds=self.lasts_s)
        return over_at if self.until_at is None or over_at <= self.until_at else None


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Terms:
    """Everything a subscription will be, compiled: its phases in order, each with what it grants.

    The first phase also stands for all time before it. `first_use` is set where a trial begins with the
    first request: when it ends is not in here.
    """

    phases: tuple[Phase, ...]
    first_use: FirstUseTrial | None = None

    @property
    def every_phase(self) -> tuple[Phase, ...]:
        """Return all phases that may ever be in force, those after a trial from first use too."""
        return self.phases if self.first_use is None else self.phases + self.first_use.then

    def phase_at(self, now: datetime, first_used_at: datetime | None = None) -> Phase:
        """Return the phase in force at `now`, given when the subscription was first used, if it was."""
        trial = self.first_use
        if trial is None or first_used_at is None:
            return _in_force(self.phases, now)
        over_at = trial.over_at(first_used_at)
        return _in_force(self.phases if over_at is None or now < over_at else trial.then, now)

    def timeline(self, first_used_at: datetime | None = None) -> tuple[Phase, ...]:
        """Return the phases as one life: those of the trial, and from its end on those that follow it.

        What is in force by it at any instant is what `phase_at` says; only the phase in which the trial ends
        begins there instead of where it would have without a trial.
        """
        trial = self.first_use
        over_at = trial.over_at(first_used_at) if trial is not None and first_used_at is not None else None
        if trial is None or over_at is None:
            return self.phases
        before = (phase for phase in self.phases if phase.starts_at < over_at)
        after = (phase for phase in trial.then if phase.starts_at > over_at)
        return (*before, replace(_in_force(trial.then, over_at), starts_at=over_at), *after)


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
    compiled at (see `store`). `first_used_at` is when its subscription was first used, None while the
    database has not been told.
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
    first_used_at: datetime | None = None

    def scopes_under(self, grant: Grant) -> frozenset[str]:
        """Return the token's scopes as far as `grant` still has them."""
        return grant.scopes if self.scopes is None else self.scopes & grant.scopes
