"""How a receipt is written: what is known of it before the script runs, and the numbers that only the script knows.

`receipt` reads it. The head is text without a zero byte; after one come little-endian doubles: Redis's time; for each
charge but those of concurrency 1 if it was counted or 0, units beyond the amount, when the quota's period ends, units
of the balance itself, and units of each grant in the order they are spent; then for each meter units of overage. Pure.
"""

import json
import struct
from collections.abc import Callable, Sequence
from typing import Any

from tallygate.limits.credits import Balance, ends_us
from tallygate.limits.keys import Place
from tallygate.limits.limit import Limit, LimitKind
from tallygate.limits.limiter import Acquisition, Charge

GIVEN_BACK_WITHIN_S = 86_400
"""A receipt that is given back when its time is over waits so long for somebody to do it; then its charge stands."""


def receipt_head(
    acquisition: Acquisition, where: Sequence[tuple[Place, ...]], balance: Callable[[Limit], Balance]
) -> bytes:
    """Return the head; `where` are the `places` of the acquisition, `balance` says what credits hold at present."""
    subject = acquisition.subject
    keys: list[str] = []
    charges = [
        _charge(charge, each, keys, balance)
        for charge, each in zip(acquisition.charges, where, strict=True)
        if charge.limit.kind is not LimitKind.CONCURRENCY
    ]
    said = {
        "o": [subject.subscription, acquisition.plan, subject.family, acquisition.route],
        "s": acquisition.receipt_s,
        "k": keys,
        "c": charges,
        "u": acquisition.usage,
        "x": acquisition.unsettled,
    }
    return json.dumps(said, separators=(",", ":")).encode()


def receipt_text(head: bytes, numbers: Sequence[int]) -> bytes:
    """Return the receipt."""
    return head + b"\0" + struct.pack(f"<{len(numbers)}d", *numbers)


def _charge(
    charge: Charge, where: tuple[Place, ...], keys: list[str], balance: Callable[[Limit], Balance]
) -> list[Any]:
    limit, (own, *buckets) = charge.limit, where
    amount, grants = limit.amount, []
    if limit.kind is LimitKind.CREDITS:
        held = balance(limit)
        amount = held.amount
        grants = [
            [
                _number(buckets[number].key, keys),
                buckets[number].field,
                limit.buckets[number].amount,
                ends_us(limit.buckets[number]),
            ]
            for number in held.buckets
        ]
    most, window_us = (limit.burst, limit.window_us) if limit.kind is LimitKind.RATE else (0, 0)
    about = [limit.meter, limit.kind.value, _number(own.key, keys), own.field, int(limit.is_shadow), charge.cost]
    return [*about, amount, most, window_us, grants]


def _number(key: str, keys: list[str]) -> int:
    if key not in keys:
        keys.append(key)
    return keys.index(key)
