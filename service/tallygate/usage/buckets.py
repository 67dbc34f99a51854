"""The port of the buckets: where enforcement counts usage, by customer and minute, until the ledger has it.

Promises, the same for every adapter (tests/contract/test_usage_buckets.py):

- every bucket that holds something is listed, as long as it is not forgotten;
- a bucket is sealed once its minute is over by the store's own clock; a sealed one never changes, and what is counted
  in that minute later, because the clock stepped back, goes to another;
- sealing, reading and forgetting can be repeated, by several at once, and forgetting forgets only what was read.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from tallygate.limits.keys import OPENED_FIELD
from tallygate.usage.entry import UsageEntry, parse_field, summed

SETTLED_AFTER_S = 2
"""A minute is over so many seconds after its end: clocks of a cluster's nodes differ by less."""


_OPENED = OPENED_FIELD.encode()


class BucketName(NamedTuple):
    """A customer's bucket of a minute since 1970; `opened_us` is 0 for one that may still be counted in."""

    customer: str
    minute: int
    opened_us: int = 0

    @property
    def is_sealed(self) -> bool:
        """Say whether it does not change any more."""
        return self.opened_us > 0


@dataclass(frozen=True, slots=True)
class Bucket:
    """What a sealed bucket holds: entries, no two alike, and the fields that are none."""

    name: BucketName
    entries: tuple[UsageEntry, ...]
    unreadable: tuple[bytes, ...] = ()

    @classmethod
    def of(cls, name: BucketName, fields: Mapping[bytes, bytes]) -> "Bucket":
        """Return what the fields of a bucket say."""
        entries: list[UsageEntry] = []
        unreadable: list[bytes] = []
        for field, value in fields.items():
            if field != _OPENED:
                try:
                    entries.append(parse_field(name.customer, name.minute, field, value))
                except ValueError:
                    unreadable.append(field)
        return cls(name, summed(entries), tuple(unreadable))


class Sealing(NamedTuple):
    """What became of buckets to be sealed; `expired` ones had been left for too long, and are gone."""

    sealed: list[BucketName]
    open: list[BucketName]
    expired: list[BucketName]


class UsageBuckets(Protocol):
    """Buckets of usage; every method raises LimiterUnavailableError when the store does not answer in time."""

    async def now_us(self) -> int:
        """Return the time by the store's clock, us since 1970."""
        ...

    def names(self) -> AsyncIterator[list[BucketName]]:
        """Return every bucket, in pages of some thousands at most; one of two that are listed twice may be gone."""
        ...

    async def seal(self, names: Sequence[BucketName]) -> Sealing:
        """Seal those of these open buckets whose minute is over."""
        ...

    async def read(self, names: Sequence[BucketName]) -> list[Bucket]:
        """Return what these sealed buckets hold; those that are gone are left out."""
        ...

    async def forget(self, buckets: Sequence[Bucket], *, is_kept: bool = False) -> None:
        """Remove buckets from the list and from the store.

        Their unreadable fields are kept aside, for a person to look at, under a name that does not expire. So is
        the whole bucket if `is_kept`.
        """
        ...

    async def strike(self, names: Sequence[BucketName]) -> list[BucketName]:
        """Take sealed buckets that are gone off the list; return those nobody forgot: they were left for too long."""
        ...

    async def moved_to_us(self) -> int | None:
        """Return up to when the ledger has everything, us since 1970, as it was last told; None if never."""
        ...

    async def tell_moved_to(self, at_us: int, *, is_first: bool = False) -> None:
        """Tell everybody up to when the ledger has everything; if it `is_first`, only if nobody ever did."""
        ...
