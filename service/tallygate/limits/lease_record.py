"""A slab as a journal has it: the terms of one of its requests and how many there are, as text and back.

Owns the text, and nothing of where it is kept (`journal_files`). Pure. What is read was perhaps cut off by a crash, or
written by somebody else: whatever is not a slab is a ValueError.
"""

import json
from typing import Any

from tallygate.limits.amendment import Amendment, Change, MeterChange
from tallygate.limits.keys import COUNTED
from tallygate.limits.limit import EXACT_INTEGER, LimitKind


def slab_text(terms: Amendment, size: int) -> bytes:
    """Return the text of so many requests on these terms."""
    said = {
        "n": size,
        "o": [
            terms.customer, terms.id, terms.subscription, terms.plan, terms.family, terms.route, terms.minute,
        ],
        "c": [[each.kind.value, each.key, each.field, each.own, each.end_us] for each in terms.changes],
        "u": [[each.meter, each.allowed] for each in terms.usage],
    }  # fmt: skip
    return json.dumps(said, separators=(",", ":")).encode()


def read_slab(text: bytes) -> tuple[Amendment, int]:
    """Return terms and size; raise ValueError for anything that `slab_text` did not write."""
    try:
        said: dict[str, Any] = json.loads(text)
        *names, minute = said["o"]
        customer, lease, subscription, plan, family, route = map(_text, names)
        terms = Amendment(
            customer=customer,
            id=lease,
            subscription=subscription,
            plan=plan,
            family=family,
            route=route,
            entry=COUNTED,
            minute=_units(minute),
            changes=tuple(_change(*each) for each in said["c"]),
            usage=tuple(MeterChange(_text(meter), _units(units), 0) for meter, units in said["u"]),
            is_slab=True,
        )
        return terms, _units(said["n"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError("this is no slab") from error


def _change(kind: str, key: str, field: str, cost: int, end_us: int) -> Change:
    units = _units(cost)
    return Change(LimitKind(kind), _text(key), _text(field), -units, end_us=_units(end_us), own=units)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _units(value: object) -> int:
    if type(value) is not int or not 0 <= value < EXACT_INTEGER:
        raise ValueError(value)
    return value
