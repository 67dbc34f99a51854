"""Identifiers: a prefix that says what it names, then a ULID.

`cus_01jd…` for customers, `sub_` subscriptions, `fam_` token families, `tok_` tokens. Ids of one kind
sort by the millisecond they were made in, so a list in id order is a list in order of creation.
"""

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

_CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"
_TIME_CHARS = 10
_RANDOM_CHARS = 16
_RANDOM_BYTES = 10
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def new_id(prefix: str, at: datetime, entropy: Callable[[int], bytes] = os.urandom) -> str:
    """Return `<prefix>_` + 26 characters of Crockford base32: 48 bits of ms since 1970, 80 random."""
    milliseconds = (at - _EPOCH) // _MILLISECOND  # by whole numbers: a float may fall into the millisecond before
    random = int.from_bytes(entropy(_RANDOM_BYTES), "big")
    return f"{prefix}_{_base32(milliseconds, _TIME_CHARS)}{_base32(random, _RANDOM_CHARS)}"


def _base32(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 32)
        digits.append(_CROCKFORD[digit])
    return "".join(reversed(digits))
