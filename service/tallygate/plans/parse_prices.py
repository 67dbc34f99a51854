"""Reading the price of a plan, and what charges and overage cost.

Owns their form. Does not own what they come to for an invoice. Amounts are exact decimals, in the one
currency of the price.
"""

import re
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from decimal import Decimal

from tallygate.core.money import Money, minor_unit
from tallygate.core.periods import PeriodUnit
from tallygate.licenses.routes import DEFAULT_METER
from tallygate.limits.limit import EXACT_INTEGER, OnExceed
from tallygate.plans.charge import Charge, ChargeModel, Package, Percentage, PerUnit, Pricing, Tier, Tiered
from tallygate.plans.document import PlanLimit, Price
from tallygate.plans.fields import NAME, NAME_MEND, Field, Record
from tallygate.plans.parse_meters import KnownMeters
from tallygate.plans.problems import did_you_mean, shown

BILLED_EVERY = (PeriodUnit.DAY, PeriodUnit.WEEK, PeriodUnit.MONTH, PeriodUnit.YEAR)
PRICE_KEYS = ("amount", "currency", "every", "prorate")
CHARGE_KEYS = {
    ChargeModel.PER_UNIT: ("unit", "included"),
    ChargeModel.GRADUATED: ("tiers", "included"),
    ChargeModel.VOLUME: ("tiers", "included"),
    ChargeModel.PACKAGE: ("size", "price", "included"),
    ChargeModel.PERCENTAGE: ("rate", "worth", "free_amount", "fee", "events", "free_events"),
}
"""What each model takes, beside `BOUNDS`."""
OPTIONAL_KEYS = ("included", "worth", "free_amount", "fee", "events", "free_events")
FEE_KEYS = ("events", "free_events")
_MODEL_KEYS = tuple(dict.fromkeys(key for keys in CHARGE_KEYS.values() for key in keys))
BOUNDS = ("minimum", "maximum")
RATE = re.compile(r"(100(?:\.0{1,6})?|(?:0|[1-9][0-9]?)(?:\.[0-9]{1,6})?)%")
MAXIMUM_TIERS = 50


def read_price(field: Field) -> Price | None:
    """Return `{amount: "49.00", currency: USD, every: month}`."""
    record = field.record(PRICE_KEYS)
    amount = _money(record, "amount")
    currency = _currency(record)
    every_field = record.get("every")
    every = every_field.choice(BILLED_EVERY) if every_field else PeriodUnit.MONTH
    is_prorated = record.flag("prorate")
    if amount is None or currency is None or every is None:
        return None
    return Price(Money(amount, currency), every, is_prorated)


@dataclass(frozen=True, slots=True)
class ChargeReader:
    """Reads the charges of one plan, whose `price` names their currency (None: it has none, or none to be read)."""

    meters: KnownMeters
    price_field: Field | None
    price: Price | None

    def charges(self, field: Field) -> dict[str, Charge]:
        """Return what every unit costs, by meter."""
        return self._read(field, None)

    def overage(self, field: Field, limits: tuple[PlanLimit, ...]) -> dict[str, Charge]:
        """Return what units beyond the amounts cost, by meter; each needs a limit that goes into overage."""
        return self._read(field, {limit.meter for limit in limits if limit.on_exceed is OnExceed.OVERAGE})

    def _read(self, field: Field, exceeding: AbstractSet[str] | None) -> dict[str, Charge]:
        charges: dict[str, Charge] = {}
        for meter, item in field.named().items():
            if self.meters.check_declared(meter, item) and exceeding is not None and meter not in exceeding:
                mend = did_you_mean(meter, exceeding) or "add on_exceed: overage to a quota or credits"
                item.wrong(f"no limit on {shown(meter)} goes into overage, so this would never be charged", mend)
            charge = self._charge(item)
            if charge is not None:
                charges[meter] = charge
        if self.price_field is None and charges:
            field.wrong("has no currency", 'add price: {amount: "0", currency: USD}; its currency is theirs')
        return charges

    def _charge(self, field: Field) -> Charge | None:
        record = field.record(("model", *_MODEL_KEYS, *BOUNDS))
        model_field = record.need("model", "write model: " + ", ".join(ChargeModel))
        model = model_field.choice(ChargeModel) if model_field else None
        if model is None:
            return None
        for name, value in record.fields.items():
            if name in _MODEL_KEYS and name not in CHARGE_KEYS[model]:
                value.wrong(f"{name} says nothing for {model.value}", "it takes " + ", ".join(CHARGE_KEYS[model]))
        pricing = self._pricing(record, model)
        minimum, maximum = _optional_money(record, "minimum"), _optional_money(record, "maximum")
        if minimum is not None and maximum is not None and maximum < minimum:
            record.fields["maximum"].wrong(f"{maximum} is below the minimum, {minimum}", "write the minimum or more")
        if pricing is None:
            return None
        return Charge(pricing, _optional_whole(record, "included"), minimum or Decimal(0), maximum)

    def _pricing(self, record: Record, model: ChargeModel) -> Pricing | None:
        if model is ChargeModel.PER_UNIT:
            unit = _money(record, "unit")
            return None if unit is None else PerUnit(unit)
        if model is ChargeModel.PACKAGE:
            return _read_package(record)
        if model is ChargeModel.PERCENTAGE:
            return self._percentage(record)
        tiers_field = record.need("tiers", 'write tiers: [{up_to: 1000, unit: "0.01"}, {unit: "0.005"}]')
        return Tiered(model, _read_tiers(tiers_field)) if tiers_field else None

    def _percentage(self, record: Record) -> Percentage | None:
        """Return a share of money: a unit is worth the smallest coin of the currency, and each request is an event."""
        rate_field = record.need("rate", 'write rate: "1.5%"')
        rate = rate_field.matching(RATE, 'write a percentage such as "1.5%", at most 100%') if rate_field else None
        worth = _optional_money(record, "worth")
        if worth == 0:
            record.fields["worth"].wrong("a unit that is worth nothing has no share", "write what a unit stands for")
        if worth is None:
            worth = minor_unit(self.price.money.currency) if self.price else Decimal(1)
        free_amount = _optional_money(record, "free_amount") or Decimal(0)
        fee, events, free_events = self._fee(record)
        if rate is None:
            return None
        return Percentage(Decimal(rate.removesuffix("%")), worth, fee, events, free_events, free_amount)

    def _fee(self, record: Record) -> tuple[Decimal, str | None, int]:
        """Return the fee for each event, the meter of the events, and how many of them are free."""
        fee, events_field = _optional_money(record, "fee"), record.get("events")
        free_events = _optional_whole(record, "free_events")
        if record.get("fee") is None:
            for name in FEE_KEYS:
                if (field := record.get(name)) is not None:
                    field.wrong(f"{name} says nothing without a fee", 'add fee: "0.10", or remove it')
            return Decimal(0), None, 0
        events = events_field.matching(NAME, NAME_MEND) if events_field else DEFAULT_METER
        if events_field and events is not None:
            self.meters.check_declared(events, events_field)
        return fee or Decimal(0), events, free_events


def _read_package(record: Record) -> Package | None:
    size_field = record.need("size", "write size: 1000, the units of a package")
    size = size_field.whole(1, EXACT_INTEGER) if size_field else None
    price = _money(record, "price")
    return None if size is None or price is None else Package(size, price)


def _read_tiers(field: Field) -> tuple[Tier, ...]:
    items = field.items()
    if not 1 <= len(items) <= MAXIMUM_TIERS:
        field.wrong(f"has {len(items)} tiers", f"from 1 to {MAXIMUM_TIERS}")
    tiers: list[Tier] = []
    reached = 0
    for item in items[:MAXIMUM_TIERS]:
        record = item.record(("up_to", "unit", "flat"))
        up_to = _up_to(record, reached, is_last=item is items[-1])
        reached = up_to or reached
        unit = _money(record, "unit")
        tiers.append(Tier(unit or Decimal(0), up_to, _optional_money(record, "flat") or Decimal(0)))
    return tuple(tiers)


def _up_to(record: Record, reached: int, *, is_last: bool) -> int | None:
    field = record.get("up_to")
    if is_last:
        if field:
            field.wrong("the last tier ends, and what lies above has no price", "add a last tier without up_to")
        return None
    if field is None:
        record.need("up_to", "only the last tier goes on without end")
        return None
    up_to = field.whole(1, EXACT_INTEGER)
    if up_to is not None and up_to <= reached:
        field.wrong(f"{up_to} is not above the tier before ({reached})", "write tiers from the lowest up")
    return up_to


def _currency(record: Record) -> str | None:
    field = record.need("currency", "write currency: USD")
    text = field.text() if field else None
    if field is None or text is None:
        return None
    try:
        return Money.parse("0", text).currency
    except ValueError as error:
        field.wrong(str(error))
        return None


def _money(record: Record, name: str) -> Decimal | None:
    field = record.need(name, f'write {name}: "0.01"')
    return field.decimal() if field else None


def _optional_money(record: Record, name: str) -> Decimal | None:
    field = record.get(name)
    return field.decimal() if field else None


def _optional_whole(record: Record, name: str) -> int:
    field = record.get(name)
    return (field.whole(0, EXACT_INTEGER) if field else None) or 0
