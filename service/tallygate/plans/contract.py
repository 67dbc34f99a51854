"""What one subscription adds to its plan: dates, payment, scheduled changes, and the terms of its own.

Values only; `compile` makes a license's Terms of them. Instants are aware, and none of them is "now".
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from tallygate.licenses.license import Feature
from tallygate.limits.limit import OnExceed


class Carry(StrEnum):
    """What becomes of the units used in a running period when the plan changes.

    `carry`: they stay used, against the new amounts. `prorate`: so, and until the period ends each amount is
    the old one for the time gone by and the new one for the time to come. `reset`: counting begins afresh.
    """

    CARRY = "carry"
    PRORATE = "prorate"
    RESET = "reset"


@dataclass(frozen=True, slots=True)
class PlanChange:
    """From `at` on the subscription is on another plan version; `id` names the change."""

    id: str
    at: datetime
    plan: str
    carry: Carry = Carry.CARRY


@dataclass(frozen=True, slots=True)
class LimitOverride:
    """What a contract says of one limit instead of its plan; None leaves the plan's word.

    `ceiling` is the hard end of an overage in units.
    """

    amount: int | None = None
    burst: int | None = None
    on_exceed: OnExceed | None = None
    ceiling: int | None = None


@dataclass(frozen=True, slots=True)
class Overrides:
    """The terms a contract has of its own: limits by name, features by key, scopes more or fewer."""

    limits: Mapping[str, LimitOverride] = field(default_factory=dict)
    features: Mapping[str, Feature] = field(default_factory=dict)
    add_scopes: frozenset[str] = frozenset()
    remove_scopes: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class CreditGrant:
    """Units added to the balance of a credits limit; they may be spent from `at` until `expires_at`."""

    id: str
    limit: str
    amount: int
    at: datetime
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Contract:
    """A subscription, as far as its license depends on it.

    `plan` is the pinned version (`pro@3`); `trial_to` the version a trial falls back to when it ends in a
    downgrade. Billing periods begin on `anchor_at`; calendar periods on the boundaries of `timezone` (an IANA
    name). `past_due_at` is when a payment failed, None while all is paid. `changes` are in order of `at`.
    `shadows` names, by version, the one that is tried beside it while it is in force.
    """

    customer: str
    plan: str
    anchor_at: datetime
    timezone: str
    starts_at: datetime
    ends_at: datetime | None = None
    suspended_at: datetime | None = None
    past_due_at: datetime | None = None
    trial_to: str | None = None
    changes: tuple[PlanChange, ...] = ()
    overrides: Overrides = field(default_factory=Overrides)
    grants: tuple[CreditGrant, ...] = ()
    shadows: Mapping[str, str] = field(default_factory=dict)

    @property
    def plans(self) -> tuple[str, ...]:
        """Return every plan version the license needs, each once."""
        named = [self.plan, *(change.plan for change in self.changes), *([self.trial_to] if self.trial_to else [])]
        return tuple(dict.fromkeys([*named, *(self.shadows[ref] for ref in named if ref in self.shadows)]))
