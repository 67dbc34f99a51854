"""Reading the limits of a plan.

Owns what a limit may say and which of its words go together. A limit that cannot be read is noted and
left out.
"""

from tallygate.licenses.routes import DEFAULT_METER
from tallygate.limits.limit import EXACT_INTEGER, CountedPer, FailPolicy, LimitKind, OnExceed
from tallygate.plans.document import AllowUntil, Exactness, LimitMode, PlanLimit
from tallygate.plans.fields import NAME, NAME_MEND, Field, Record
from tallygate.plans.notation import read_allow_until
from tallygate.plans.parse_amounts import BELONGS_TO, KINDS, Amount, read_amount, read_kind
from tallygate.plans.parse_meters import KnownMeters
from tallygate.plans.problems import shown

ReadLimit = tuple[Record, PlanLimit]

MAXIMUM_LIMITS = 20
_KEYS = ("name", *KINDS, *BELONGS_TO, "meter", "per", "on_exceed", "allow_until", "mode", "fail", "exactness")
_NO_OVERAGE = {
    LimitKind.RATE: ("a rate has no overage: what is too fast is refused", "write a larger burst, or a quota"),
    LimitKind.CONCURRENCY: ("concurrency has no overage: what is too much at once is refused", "allow more at once"),
}


def read_limits(field: Field, meters: KnownMeters) -> tuple[ReadLimit, ...]:
    """Return the limits that can be read, each with its place in the file."""
    items = field.items()
    if len(items) > MAXIMUM_LIMITS:
        field.wrong(f"has {len(items)} limits", f"at most {MAXIMUM_LIMITS}: a request asks all of them")
    taken: set[str] = set()
    limits = [_read_limit(item, taken, meters) for item in items[:MAXIMUM_LIMITS]]
    return tuple(limit for limit in limits if limit is not None)


def _read_limit(field: Field, taken: set[str], meters: KnownMeters) -> ReadLimit | None:
    record = field.record(_KEYS)
    name = _name(record, taken)
    meter = _meter(record, meters)
    per = record.choice("per", CountedPer.SUBSCRIPTION)
    mode = record.choice("mode", LimitMode.ENFORCE)
    fail = record.choice("fail", FailPolicy.CLOSED)
    on_exceed = record.choice("on_exceed", OnExceed.DENY)
    kind = read_kind(record)
    if kind is None:
        return None
    amount = read_amount(record, kind)
    exactness = _exactness(record, kind)
    allow_until = _allow_until(record, kind, on_exceed, amount)
    if name is None or meter is None or amount is None:
        return None
    return record, PlanLimit(
        name=name,
        kind=kind,
        amount=amount.units,
        window_us=amount.window_us,
        burst=amount.burst,
        period=amount.period,
        meter=meter,
        per=per,
        on_exceed=on_exceed,
        allow_until=allow_until,
        mode=mode,
        fail=fail,
        hold_s=amount.hold_s,
        refill=amount.refill,
        exactness=exactness,
    )


def _name(record: Record, taken: set[str]) -> str | None:
    """Return the limit's name and take it, after noting one that is taken already."""
    field = record.need("name", "write name: monthly")
    name = field.matching(NAME, NAME_MEND) if field else None
    if field and name is not None and name in taken:
        field.wrong(f"a second limit named {shown(name)}", "a limit's name is its own within the plan")
    if name is not None:
        taken.add(name)
    return name


def _meter(record: Record, meters: KnownMeters) -> str | None:
    field = record.get("meter")
    meter = field.matching(NAME, NAME_MEND) if field else DEFAULT_METER
    if meter is not None:
        meters.check_counted(meter, field or record.field)
    return meter


def _exactness(record: Record, kind: LimitKind) -> Exactness:
    exactness, field = record.choice("exactness", Exactness.EXACT), record.get("exactness")
    if field and exactness is Exactness.LEASED and kind is LimitKind.CONCURRENCY:
        field.wrong("concurrency cannot be leased: what is in flight is known in one place", "remove it")
    return exactness


def _allow_until(record: Record, kind: LimitKind, on_exceed: OnExceed, amount: Amount | None) -> AllowUntil | None:
    """Return the end of an overage, after noting an overage that makes no sense."""
    exceed_field, field = record.get("on_exceed"), record.get("allow_until")
    if exceed_field and on_exceed is OnExceed.OVERAGE and kind in _NO_OVERAGE:
        exceed_field.wrong(*_NO_OVERAGE[kind])
    if field is None:
        return None
    if on_exceed is OnExceed.DENY:
        field.wrong("there is no overage to end", "add on_exceed: overage or remove it")
    end = field.read(read_allow_until)
    if end is None or amount is None:
        return end
    ceiling = end.ceiling(amount.units)
    if not amount.units <= ceiling < EXACT_INTEGER:
        bounds = f"from {amount.units} (the limit itself) to {EXACT_INTEGER - 1}"
        field.wrong(f"{shown(str(field.node.value))} ends the overage at {ceiling}", bounds)
    return end
