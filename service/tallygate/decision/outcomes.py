"""What becomes of a request's charge once it is known how the request ended.

Owns the meaning of a meter's policy: which units are given back, which number is the true one, what follows for the
meters above. Does not own where outcomes come from (`envoy/access_log`, `services/settlements`) nor how counters are
corrected (`limits/amendment`). Pure.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from tallygate.licenses.routes import ActualSource, MeterPolicy, RouteRule
from tallygate.plans.meters import Meters, ancestors

_NUMBER = re.compile("[0-9]{1,12}")
"""What a header may say, and nothing beside it: thousands of such requests in a minute add up to less than 2**53."""
_RECEIPT = re.compile(r"(?P<customer>[A-Za-z0-9_-]{1,64}):(?P<id>[A-Za-z0-9._~-]{1,128})")


def read_receipt(text: str) -> tuple[str, str] | None:
    """Return the customer and the id of a receipt, as `x-tallygate-receipt` has it; None when it is none."""
    match = _RECEIPT.fullmatch(text)
    return None if match is None else (match["customer"], match["id"])


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a request ended.

    `customer`, `receipt` and `route` (its rule's text) are what Tallygate noted when it let the request pass. `status`
    is 0 where there was no response at all. Bytes are those of the bodies; names of headers and trailers are in lower
    case.
    """

    customer: str
    receipt: str
    route: str
    status: int
    bytes_sent: int = 0
    bytes_received: int = 0
    headers: Mapping[str, str] | None = None
    trailers: Mapping[str, str] | None = None
    duration_s: float = 0.0


class Entry(StrEnum):
    """Why the ledger gets a row after the request."""

    REFUND = "refund"
    SETTLEMENT = "settlement"


@dataclass(frozen=True, slots=True)
class Truth:
    """What a request comes to: the units of each meter that may change, and why."""

    units: Mapping[str, int]
    entry: Entry


def may_change(outcome: Outcome, rule: RouteRule) -> bool:
    """Say whether this outcome could change or confirm anything that `rule` charges, without knowing the charge."""
    return _truth(outcome, rule, dict.fromkeys((meter for meter, _ in rule.costs), 0)) is not None


def truth_of(outcome: Outcome, rule: RouteRule, charged: Mapping[str, int], meters: Meters) -> Truth | None:
    """Return what the request comes to, given what it was charged by meter; None when the outcome does not say.

    A receipt is settled once. So what this outcome leaves open of a request it settles counts as unsettled; and where
    a meter waits to be reported, only a refund takes precedence of that.
    """
    found = _truth(outcome, rule, charged)
    return None if found is None else Truth(with_ancestors(found.units, charged, meters), found.entry)


def with_ancestors(told: Mapping[str, int], charged: Mapping[str, int], meters: Meters) -> dict[str, int]:
    """Return the true units that are `told`, and those of the meters above: changed by as much, unless told too."""
    units = dict(told)
    for meter, actual in told.items():
        for above in ancestors(meter, meters):
            if above in told:
                break
            if above in charged:
                units[above] = units.get(above, charged[above]) + actual - charged.get(meter, 0)
    return {meter: max(0, count) for meter, count in units.items()}


def _truth(outcome: Outcome, rule: RouteRule, charged: Mapping[str, int]) -> Truth | None:
    if any(_is_refunded(policy, outcome) for policy in rule.policies):
        entry = Entry.REFUND
    elif any(policy.actual is ActualSource.REPORTED for policy in rule.policies):
        return None
    else:
        entry = Entry.SETTLEMENT
    told = dict(_told(outcome, rule, charged))
    if not told:
        return None
    left = {policy.meter: 0 for policy in rule.policies if policy.is_refunded_unsettled and policy.meter not in told}
    return Truth({meter: units for meter, units in (told | left).items() if meter in charged}, entry)


def _told(outcome: Outcome, rule: RouteRule, charged: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    for policy in rule.policies:
        if _is_refunded(policy, outcome):
            yield policy.meter, 0
        elif policy.actual is not None:
            units = _actual(policy, outcome)
            if units is not None:
                yield policy.meter, units
        elif policy.is_refunded_unsettled:  # it has ended well, which confirms the charge
            yield policy.meter, charged.get(policy.meter, 0)


def _is_refunded(policy: MeterPolicy, outcome: Outcome) -> bool:
    return any(first <= outcome.status <= last for first, last in policy.refund_on)


def _actual(policy: MeterPolicy, outcome: Outcome) -> int | None:
    match policy.actual:
        case ActualSource.BYTES_SENT:
            return outcome.bytes_sent
        case ActualSource.BYTES_RECEIVED:
            return outcome.bytes_received
        case ActualSource.BYTES:
            return outcome.bytes_sent + outcome.bytes_received
        case ActualSource.HEADER:
            return _number(outcome.headers, policy.field_name)
        case ActualSource.TRAILER:
            return _number(outcome.trailers, policy.field_name)
        case _:
            return None


def _number(fields: Mapping[str, str] | None, name: str) -> int | None:
    text = (fields or {}).get(name, "").strip()
    return int(text) if _NUMBER.fullmatch(text) else None
