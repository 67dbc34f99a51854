"""Rating: so many units and a charge, to money, step by step.

Owns what each model of a charge comes to, and the order of what bounds it: included units are taken off, the model
prices the rest, then the minimum and the maximum of the period hold. Exact: nothing is rounded here (`EXACT` would
raise), an amount is the sum of its steps, and each step is a quantity times a price. Pure.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal

from tallygate.core.money import EXACT
from tallygate.plans.charge import Charge, ChargeModel, Package, Percentage, PerUnit, Pricing, Tier, Tiered
from tallygate.plans.notation import decimal_text

_HUNDREDTH = Decimal("0.01")
_NOTHING = Decimal(0)


@dataclass(frozen=True, slots=True)
class Step:
    """A part of what a charge comes to: `quantity` times `price` is `amount`; what is taken off is negative."""

    description: str
    quantity: int
    price: Decimal
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Rated:
    """What units come to, not rounded: the sum of its steps."""

    amount: Decimal
    steps: tuple[Step, ...]


def rate(charge: Charge, units: int, events: int = 0) -> Rated:
    """Return what `units` (and, for a percentage, `events`) of one billing period come to.

    Corrections may bring either below zero; that is rated as none.
    """
    units, events = max(units, 0), max(events, 0)
    free = min(charge.included, units)
    steps = [_step("included", free, _NOTHING)] if free else []
    steps += _priced(charge.pricing, units - free, events)
    amount = _sum(steps)
    bounded = _bounded(amount, charge)
    if bounded != amount:
        description = "up to the minimum" if bounded > amount else "down to the maximum"
        steps.append(_step(description, 1, EXACT.subtract(bounded, amount)))
    return Rated(bounded, tuple(steps))


def _bounded(amount: Decimal, charge: Charge) -> Decimal:
    at_least = max(amount, charge.minimum)
    return at_least if charge.maximum is None else min(at_least, charge.maximum)


def _priced(pricing: Pricing, units: int, events: int) -> Iterator[Step]:
    match pricing:
        case Percentage():
            yield from _percentage(pricing, units, events)
        case _ if units == 0:
            return
        case PerUnit():
            yield _step("units", units, pricing.unit)
        case Package():
            yield _step(f"packages of {pricing.size}", -(-units // pricing.size), pricing.price)
        case Tiered(model=ChargeModel.VOLUME):
            yield from _volume(pricing.tiers, units)
        case Tiered():
            yield from _graduated(pricing.tiers, units)


def _graduated(tiers: Iterable[Tier], units: int) -> Iterator[Step]:
    """Price each unit by the tier it falls into; a tier's flat fee is due once its first unit is used."""
    below = 0
    for tier in tiers:
        within = (units if tier.up_to is None else min(units, tier.up_to)) - below
        if within <= 0:
            return
        yield from _tier(tier, below, within)
        below += within


def _volume(tiers: Iterable[Tier], units: int) -> Iterator[Step]:
    """Price all units by the tier that the last of them falls into."""
    below = 0
    for tier in tiers:
        if tier.up_to is None or units <= tier.up_to:
            yield from _tier(tier, below, units)
            return
        below = tier.up_to


def _tier(tier: Tier, below: int, units: int) -> Iterator[Step]:
    reach = f"from unit {below + 1}" if tier.up_to is None else f"units {below + 1} to {tier.up_to}"
    yield _step(f"tier {reach}", units, tier.unit)
    if tier.flat:
        yield _step(f"flat fee of the tier {reach}", 1, tier.flat)


def _percentage(pricing: Percentage, units: int, events: int) -> Iterator[Step]:
    share = EXACT.multiply(pricing.rate, _HUNDREDTH)
    spent = EXACT.multiply(Decimal(units), pricing.worth)
    if units:
        yield _step(f"{decimal_text(pricing.rate)}% of the amount", units, EXACT.multiply(pricing.worth, share))
    free = min(pricing.free_amount, spent)
    if free:
        yield _step("free amount", 1, EXACT.multiply(free, -share))
    if pricing.events is not None and events > pricing.free_events:
        yield _step("fee for each event", events - pricing.free_events, pricing.fee)


def _step(description: str, quantity: int, price: Decimal) -> Step:
    return Step(description, quantity, price, EXACT.multiply(Decimal(quantity), price))


def _sum(steps: Iterable[Step]) -> Decimal:
    total = _NOTHING
    for step in steps:
        total = EXACT.add(total, step.amount)
    return total
