"""What changes of a charge after the fact: a refund, a settlement, the end of a slab; done once or not at all.

Owns the values; `receipt` and `leases` make them. `amending` is the reference of what they come to, and `lua/amend.lua`
must say the same. Pure.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from tallygate.limits.limit import LimitKind


class AmendOutcome(StrEnum):
    """What became of an amendment."""

    DONE = "done"
    REPEATED = "repeated"
    UNKNOWN = "unknown"


class Granted(NamedTuple):
    """A grant of credits: where it is counted, what it holds until `until_us`, and the units that go back to it."""

    key: str
    field: str
    amount: int
    until_us: int
    back: int


class Change(NamedTuple):
    """What one counter gains or, below 0, gives back.

    `meter` is the one whose overage the counter tells, empty for a limit in shadow. `amount` splits what is taken into
    allowed and overage; `over` says how many of those units are overage where the counter cannot say it any more.
    A quota changes in the period that ends at `end_us` only. A rate was charged at `was_us` by Redis's time, and holds
    `most` units times `window_us`. Of credits, `own` units go back to the balance and the rest to `grants`.
    """

    kind: LimitKind
    key: str
    field: str
    units: int
    meter: str = ""
    amount: int = 0
    over: int = 0
    end_us: int = 0
    most: int = 0
    window_us: int = 0
    was_us: int = 0
    own: int = 0
    grants: tuple[Granted, ...] = ()


class MeterChange(NamedTuple):
    """The difference to the usage of a meter; of what is taken, counters say how much of `allowed` is overage."""

    meter: str
    allowed: int
    overage: int


@dataclass(frozen=True, slots=True)
class Amendment:
    """One amendment of what `customer` was charged under a receipt or, if `is_slab`, a lease, named by `id`.

    `usage` is of `minute`, for subscription, plan and family. A receipt cannot be amended from `until_us` on (0: ever
    while it is there); `is_due` says that it is among those that are given back. The end of a slab that the store does
    not know gives nothing back, but counts its usage: the store lost the grant. Told late (`is_late`) it changes
    nothing then: it may have been told before, and that be forgotten by now.
    """

    customer: str
    id: str
    subscription: str
    plan: str
    family: str
    route: str
    entry: str
    minute: int
    changes: tuple[Change, ...]
    usage: tuple[MeterChange, ...]
    until_us: int = 0
    is_slab: bool = False
    is_late: bool = False
    is_due: bool = False
