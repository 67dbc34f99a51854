"""Reading the buckets that are in Redis now.

Owns how much of it one answer looks at: `MOST_OF_ONE` buckets of one customer, `MOST_OF_ALL` of all together; beyond
that it says so. The buckets of a slot are read in one step, for while they are read they may be sealed, which gives
them other names. Any number of tasks. Failure: LimiterUnavailableError or OverloadedError when Redis does not answer.
"""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from importlib.resources import files
from itertools import islice
from typing import Any, TypeVar

from tallygate.core.errors import LimiterUnavailableError
from tallygate.limits.keys import OPENED_FIELD, PREFIX, Place, index_key, index_keys
from tallygate.storage.redis_topology import RedisLinks
from tallygate.usage.buckets import BucketName
from tallygate.usage.live import LiveBucket, Look, Tail
from tallygate.usage.redis_calls import AT_ONCE, Call, RedisCalls, script_call, tag_of

MOST_OF_ONE, MOST_OF_ALL = 2_000, 10_000
_MOST_AT_ONCE = 1_000
_INDEXES_AT_ONCE = 256
_OPENED = OPENED_FIELD.encode()
_LOOK = files("tallygate.usage").joinpath("lua", "look.lua").read_text(encoding="utf-8")
_T = TypeVar("_T")


class RedisLiveBuckets:
    """Buckets in Redis."""

    def __init__(self, links: RedisLinks, *, deadline_s: float = 2.0) -> None:
        """Ask through `links`, which somebody else closes; all buckets are read after `deadline_s` or none."""
        self._calls = RedisCalls(links)
        self._deadline_s = deadline_s
        self._is_cluster = False

    async def read(self, customer: str | None) -> Tail:
        """Return the buckets of a customer, or of all."""
        if customer is not None:
            return (await self.look(customer, ())).tail
        try:
            async with asyncio.timeout(self._deadline_s):
                return await self._read_all()
        except TimeoutError:
            raise LimiterUnavailableError(f"redis was not read within {self._deadline_s} s") from None

    async def look(self, customer: str, counters: Sequence[Place]) -> Look:
        """Return the buckets of a customer and these counters of theirs, read in one step."""
        records = list(dict.fromkeys(place.key for place in counters))
        places = [part for place in counters for part in (records.index(place.key) + 1, place.field)]
        index = index_key(customer)
        arguments = (1, PREFIX, customer, MOST_OF_ONE, *places)
        return _look(await self._calls.one(script_call(_LOOK, tag_of(index), [index, *records], arguments)))

    async def _read_all(self) -> Tail:
        if not self._is_cluster:
            try:
                return await self._read_indexes(_INDEXES_AT_ONCE, calls_at_once=4)
            except LimiterUnavailableError as error:
                if "CROSSSLOT" not in str(error):
                    raise
                self._is_cluster = True
        return await self._read_indexes(1, calls_at_once=AT_ONCE)

    async def _read_indexes(self, number: int, *, calls_at_once: int) -> Tail:
        """Look at every index, some in one call and some calls at once, until enough was found."""
        buckets: list[LiveBucket] = []
        is_whole = True
        for batch in _batches(_batches(index_keys(), number), calls_at_once):
            if len(buckets) >= MOST_OF_ALL:
                is_whole = False
                break
            for answer in await self._calls.each(batch, _call):
                tail = _look(answer).tail
                buckets += tail.buckets
                is_whole = is_whole and tail.lacks is None
        return Tail(tuple(buckets), None if is_whole else _too_many(len(buckets)))


def _call(indexes: Sequence[str]) -> Call:
    return script_call(_LOOK, tag_of(indexes[0]), indexes, (len(indexes), PREFIX, "", _MOST_AT_ONCE))


def _look(answer: Any) -> Look:  # noqa: ANN401 - see look.lua
    at_us, is_whole, counters, *named = answer
    buckets = tuple(_bucket(*pair) for pair in zip(named[::2], named[1::2], strict=True))
    return Look(int(at_us), Tail(buckets, None if is_whole else _too_many(len(buckets))), tuple(counters))


def _bucket(name: bytes, fields: Sequence[bytes]) -> LiveBucket:
    """Return a bucket by its name in the index."""
    customer, minute, *sealed = name.decode().split(":")
    opened = sealed[0] if sealed else fields[fields.index(_OPENED) + 1] if _OPENED in fields[::2] else 0
    return LiveBucket(BucketName(customer, int(minute), int(opened)), not sealed, fields)


def _too_many(number: int) -> str:
    return f"only {number} of the buckets that Redis holds were read; the ledger has the rest once they are moved"


def _batches(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    left = iter(items)
    while batch := list(islice(left, size)):
        yield batch
