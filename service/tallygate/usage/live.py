"""The port of usage that is not in the ledger yet: buckets of the present minute, and those that wait to be moved.

Owns what such a bucket and a look at them are. Does not own where they are kept (`redis_live`).
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from tallygate.limits.keys import OPENED_FIELD, Place
from tallygate.usage.buckets import BucketName
from tallygate.usage.entry import UsageEntry, parse_field

_OPENED = OPENED_FIELD.encode()


class LiveBucket(NamedTuple):
    """What was counted of a customer in a minute; an open one is named by its opening too."""

    name: BucketName
    is_open: bool
    fields: Sequence[bytes]

    def entries(self) -> Iterator[UsageEntry]:
        """Return what can be read of it; the worker keeps the rest aside. Done when asked, for there may be many."""
        customer, minute, _ = self.name
        for field, value in zip(self.fields[::2], self.fields[1::2], strict=True):
            if field != _OPENED:
                with suppress(ValueError):
                    yield parse_field(customer, minute, field, value)


@dataclass(frozen=True, slots=True)
class Tail:
    """Buckets, and what `lacks` of them, None when these are all."""

    buckets: tuple[LiveBucket, ...]
    lacks: str | None


@dataclass(frozen=True, slots=True)
class Look:
    """The buckets of a customer and some counters, as of one instant of Redis's clock, us since 1970."""

    at_us: int
    tail: Tail
    counters: tuple[bytes | None, ...]


class LiveBuckets(Protocol):
    """Where usage is until it is in the ledger."""

    async def read(self, customer: str | None) -> Tail:
        """Return the buckets of a customer, or of all.

        Raises LimiterUnavailableError or OverloadedError when the store does not answer.
        """
        ...

    async def look(self, customer: str, counters: Sequence[Place]) -> Look:
        """Return the buckets of a customer and these counters of theirs, read in one step."""
        ...
