"""What the units of a meter cost: the models of a charge, and what bounds it.

Values only, exact decimals in the one currency of the plan's price. Their form in a file is `parse_prices`, what
they come to for so many units `billing.rating`. Immutable.
"""

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum


class ChargeModel(StrEnum):
    """How the units of a charge are priced."""

    PER_UNIT = "per_unit"
    GRADUATED = "graduated"
    VOLUME = "volume"
    PACKAGE = "package"
    PERCENTAGE = "percentage"


@dataclass(frozen=True, slots=True)
class PerUnit:
    """Each unit costs `unit`."""

    unit: Decimal


@dataclass(frozen=True, slots=True)
class Tier:
    """A price per unit up to and including unit number `up_to` (None: without end), and a fixed fee."""

    unit: Decimal
    up_to: int | None = None
    flat: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class Tiered:
    """Tiers, lowest first: `graduated` prices each unit by its own tier, `volume` all by the one reached."""

    model: ChargeModel
    tiers: tuple[Tier, ...]


@dataclass(frozen=True, slots=True)
class Package:
    """Every begun package of `size` units costs `price`."""

    size: int
    price: Decimal


@dataclass(frozen=True, slots=True)
class Percentage:
    """`rate` percent of the money that the units stand for, `worth` each, and a `fee` for each event.

    `events` is the meter that counts the events. The first `free_events` have no fee, and the first `free_amount`
    of the money is taken no share of: the one frees nothing from the other.
    """

    rate: Decimal
    worth: Decimal
    fee: Decimal = Decimal(0)
    events: str | None = None
    free_events: int = 0
    free_amount: Decimal = Decimal(0)


Pricing = PerUnit | Tiered | Package | Percentage


@dataclass(frozen=True, slots=True)
class Charge:
    """What the units of a meter cost in a billing period.

    The first `included` units are free, and tiers and packages begin after them; then the period costs at least
    `minimum` and at most `maximum`.
    """

    pricing: Pricing
    included: int = 0
    minimum: Decimal = Decimal(0)
    maximum: Decimal | None = None

    @property
    def events(self) -> str | None:
        """Return the meter whose units are counted as events, where there is a fee for each."""
        return self.pricing.events if isinstance(self.pricing, Percentage) else None
