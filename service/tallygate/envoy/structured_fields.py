"""Structured Field Values (RFC 9651 §4.1), as much of the serializer as Tallygate's headers need.

Nothing here fails on a value: what a type cannot hold is written as the nearest type that can, because a
header is never worth a refused request. Keys are the caller's to get right: they come from validated plans.
"""

import math
from collections.abc import Iterable, Mapping
from decimal import Decimal

LARGEST_INTEGER = 999_999_999_999_999
"""RFC 9651 §3.3.1: fifteen digits."""
_LARGEST_DECIMAL = 999_999_999_999.999

BareItem = bool | int | float | str
Parameters = Iterable[tuple[str, BareItem]]


def bare_item(value: BareItem) -> str:
    """Write a boolean, integer, decimal or string; numbers out of range become strings."""
    if isinstance(value, bool):
        return "?1" if value else "?0"
    if isinstance(value, int):
        return str(value) if abs(value) <= LARGEST_INTEGER else f'"{value}"'
    if isinstance(value, float):
        return _decimal(value)
    return _string(value)


def item(value: BareItem, parameters: Parameters = ()) -> str:
    """Write an item with its parameters: `"burst";q=50;w=1`."""
    return bare_item(value) + "".join(f";{key}{_parameter(one)}" for key, one in parameters)


def dictionary(members: Mapping[str, BareItem]) -> str:
    """Write a dictionary in the order of its keys; a true member is its key alone (§4.1.2)."""
    return ", ".join(key + _parameter(members[key]) for key in sorted(members))


def _parameter(value: BareItem) -> str:
    return "" if value is True else "=" + bare_item(value)


def _decimal(value: float) -> str:
    if not math.isfinite(value) or abs(value) > _LARGEST_DECIMAL:
        return f'"{value}"'
    # Three digits, half to even (§4.1.5); at least one digit stays behind the point.
    text = format(Decimal(repr(value)).quantize(Decimal("0.001")), "f").rstrip("0")
    return text + "0" if text.endswith(".") else text


def _string(value: str) -> str:
    if value.isascii() and value.isprintable():
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    # A Display String (§4.1.11): UTF-8, percent-encoded in lower case.
    return '%"' + "".join(_display(byte) for byte in value.encode("utf-8", "replace")) + '"'


def _display(byte: int) -> str:
    is_plain = 0x20 <= byte <= 0x7E and byte not in b'%"'  # noqa: PLR2004 - the printable ASCII range
    return chr(byte) if is_plain else f"%{byte:02x}"
