"""The port of the ledger: where usage stays.

Promises, the same for every adapter (tests/contract/test_usage_ledger.py): what a bucket holds is stored once, however
often it is delivered and by how many at once, all of it or nothing; the roll-ups always equal the sum of the entries;
nothing stored is ever changed. Entries are numbered in the order in which they become visible.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from tallygate.usage.buckets import Bucket


class Ledger(Protocol):
    """Where usage stays; every method raises StoreUnavailableError when the store does not answer in time."""

    async def store(self, buckets: Sequence[Bucket]) -> int:
        """Store these buckets in one transaction; return how many entries are new.

        Raises UnstorableError when the store refuses what they hold: nothing was stored then.
        """
        ...

    async def reached(self, moved_to: datetime) -> None:
        """Note that everything counted before an instant is here."""
        ...


class UnstorableError(Exception):
    """The ledger refuses what it is given, whoever asks; another delivery of the same is refused too."""
