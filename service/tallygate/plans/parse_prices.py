"""Reading the price of a plan and the charges of its overage.

Owns their form. Does not own what they come to for an invoice. Amounts are exact decimals, in the one
currency of the price.
"""

from decimal import Decimal

from tallygate.core.money import Money
from tallygate.core.periods import PeriodUnit
from tallygate.limits.limit import EXACT_INTEGER, OnExceed
from tallygate.plans.document import ChargeModel, OverageCharge, Package, PerUnit, PlanLimit, Price, Tier, Tiered
from tallygate.plans.fields import Field, Record
from tallygate.plans.parse_meters import KnownMeters
from tallygate.plans.problems import did_you_mean, shown

BILLED_EVERY = (PeriodUnit.DAY, PeriodUnit.WEEK, PeriodUnit.MONTH, PeriodUnit.YEAR)
CHARGE_KEYS = {
    ChargeModel.PER_UNIT: ("unit",),
    ChargeModel.GRADUATED: ("tiers",),
    ChargeModel.VOLUME: ("tiers",),
    ChargeModel.PACKAGE: ("size", "price"),
}
_ALL_CHARGE_KEYS = ("model", "unit", "tiers", "size", "price")
MAXIMUM_TIERS = 50


def read_price(field: Field) -> Price | None:
    """Return `{amount: "49.00", currency: USD, every: month}`."""
    record = field.record(("amount", "currency", "every"))
    amount = _money(record, "amount")
    currency = _currency(record)
    every_field = record.get("every")
    every = every_field.choice(BILLED_EVERY) if every_field else PeriodUnit.MONTH
    if amount is None or currency is None or every is None:
        return None
    return Price(Money(amount, currency), every)


def read_overage(
    field: Field, price: Field | None, limits: tuple[PlanLimit, ...], meters: KnownMeters
) -> dict[str, OverageCharge]:
    """Return the charges by meter; each needs a limit of its meter that goes into overage, and a currency."""
    exceeding = {limit.meter for limit in limits if limit.on_exceed is OnExceed.OVERAGE}
    charges: dict[str, OverageCharge] = {}
    for meter, item in field.named().items():
        if meters.check_declared(meter, item) and meter not in exceeding:
            mend = did_you_mean(meter, exceeding) or "add on_exceed: overage to a quota or credits"
            item.wrong(f"no limit on {shown(meter)} goes into overage, so this would never be charged", mend)
        charge = _read_charge(item)
        if charge is not None:
            charges[meter] = charge
    if price is None and charges:
        field.wrong("has no currency", 'add price: {amount: "0", currency: USD}; its currency is the overage\'s')
    return charges


def _read_charge(field: Field) -> OverageCharge | None:
    record = field.record(_ALL_CHARGE_KEYS)
    model_field = record.need("model", "write model: " + ", ".join(ChargeModel))
    model = model_field.choice(ChargeModel) if model_field else None
    if model is None:
        return None
    for name, value in record.fields.items():
        if name not in ("model", *CHARGE_KEYS[model]):
            value.wrong(f"{name} says nothing for {model.value}", "it takes " + " and ".join(CHARGE_KEYS[model]))
    if model is ChargeModel.PER_UNIT:
        unit = _money(record, "unit")
        return None if unit is None else PerUnit(unit)
    if model is ChargeModel.PACKAGE:
        return _read_package(record)
    tiers_field = record.need("tiers", 'write tiers: [{up_to: 1000, unit: "0.01"}, {unit: "0.005"}]')
    return Tiered(model, _read_tiers(tiers_field)) if tiers_field else None


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
        flat = _money(record, "flat") if record.get("flat") else Decimal(0)
        tiers.append(Tier(unit or Decimal(0), up_to, flat or Decimal(0)))
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
