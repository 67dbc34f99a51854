"""Values that are made once of long-lived objects and looked up by who those are, not by what they hold.

Comparing a license or a limit would cost more than what is saved. An object's `id` is its own only while it lives, so
each value is kept together with the objects it was made of. Bounded: the oldest goes first. For one event loop.
"""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

MOST_KEPT = 10_000

Value = TypeVar("Value")


class Kept(Generic[Value]):
    """Values by a key of ids."""

    __slots__ = ("_entries", "_most")

    def __init__(self, most: int = MOST_KEPT) -> None:
        """Keep so many at most."""
        self._most = most
        self._entries: OrderedDict[Hashable, tuple[Value, object]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Hashable) -> Value | None:
        """Return the value kept under `key`, None if there is none."""
        entry = self._entries.get(key)
        return None if entry is None else entry[0]

    def put(self, key: Hashable, value: Value, owners: object) -> Value:
        """Keep `value`, and `owners` alive: every object whose id is in `key`. Return the value."""
        if len(self._entries) >= self._most:
            self._entries.popitem(last=False)
        self._entries[key] = value, owners
        return value
