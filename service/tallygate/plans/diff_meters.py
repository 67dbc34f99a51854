"""What changes in the meters that routes are counted by.

Owns the judgement: all of it is neutral. What a parent adds to the cost of a request is told of the route; and what
becomes of a charge after the response is, like money, for you to say whether it is fair. Pure.
"""

from collections.abc import Iterator
from typing import Any

from tallygate.plans.change import Change, ChangeKind

_Meters = dict[str, dict[str, Any]]

_SAYS = {
    "parent": "which meter its units count in too",
    "refund_on": "which responses give its units back",
    "actual": "where the true number of its units is found",
    "within": "how long a request may be settled",
    "unsettled": "what becomes of requests that nobody settles",
}


def diff_meters(old: _Meters, new: _Meters) -> Iterator[Change]:
    """Tell how the meters of two documents differ, key by key."""
    for meter in sorted({*old, *new}):
        was, is_now = old.get(meter), new.get(meter)
        if was is None or is_now is None:
            sentence = "the meter is no longer declared" if is_now is None else "the meter is declared"
            yield Change(f"meters.{meter}", was, is_now, ChangeKind.NEUTRAL, sentence)
            continue
        for key, sentence in _SAYS.items():
            if was.get(key) != is_now.get(key):
                yield Change(f"meters.{meter}.{key}", was.get(key), is_now.get(key), ChangeKind.NEUTRAL, sentence)
