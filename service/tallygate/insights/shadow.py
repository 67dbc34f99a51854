"""Counting what is in shadow would have refused, on live traffic: a plan version that is tried, or a single limit.

What is in shadow is so beside a version in force, and is counted for that pair: the same version tried beside two
others has two reports. A worker counts in memory and adds its counts to the shared ones once a second (`redis.py`);
the report sums all workers. Bounded: a worker names so many subscriptions a flush, and a report so many in all;
beyond, refusals are counted without saying whose.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias

NAMED_AT_ONCE, NAMED_IN_ALL = 1_000, 10_000
PASSED = "ok"
WHOLE = ""

Pair: TypeAlias = tuple[str, str]
"""The version in force (`pro@3`), and the one that is tried (`pro@4`) or a limit in shadow there (`pro@3:burst`)."""
Counts: TypeAlias = Counter[tuple[str, str]]
"""Requests by subscription, "" for all of them, and by what would have been said: a reason, or `PASSED`."""


@dataclass(frozen=True, slots=True)
class ShadowReport:
    """What a shadow has seen since it began: requests, refusals by reason, and the subscriptions refused most."""

    requests: int
    refused: Mapping[str, int]
    subscriptions: Mapping[str, int]


NOTHING_SEEN = ShadowReport(0, {}, {})


class ShadowTally:
    """The counts of one worker since the last flush."""

    def __init__(self) -> None:
        """Begin with nothing counted."""
        self._counts: defaultdict[Pair, Counts] = defaultdict(Counter)
        self._named = 0

    def count(self, beside: str, shadow: str, subscription: str, refused_for: str | None) -> None:
        """Count one request that `beside` allowed while `shadow` looked on."""
        counts = self._counts[beside, shadow]
        counts[WHOLE, refused_for or PASSED] += 1
        if refused_for is None:
            return
        whose = subscription, refused_for
        if whose not in counts:
            if self._named >= NAMED_AT_ONCE:
                return
            self._named += 1
        counts[whose] += 1

    def take(self) -> dict[Pair, Counts]:
        """Return what was counted and begin again."""
        counts, self._counts, self._named = self._counts, defaultdict(Counter), 0
        return dict(counts)

    def put_back(self, pair: Pair, counts: Counts) -> None:
        """Count again what could not be handed on."""
        self._counts[pair].update(counts)
        self._named += sum(1 for subscription, _ in counts if subscription != WHOLE)


class ShadowLedger(Protocol):
    """Where the counts of all workers are added up. Methods raise DependencyError when it does not answer."""

    async def add(self, beside: str, shadow: str, counts: Counts) -> None:
        """Add a worker's counts, all of them or none; once a report names enough subscriptions, it names no new one."""
        ...

    async def report(self, beside: str, shadow: str, top: int = 20) -> ShadowReport:
        """Return what was counted for a shadow beside a version, with the `top` subscriptions refused most."""
        ...

    async def forget(self, beside: str, shadow: str) -> None:
        """Begin the counts of a shadow beside a version afresh."""
        ...


async def hand_on(tally: ShadowTally, ledger: ShadowLedger) -> None:
    """Hand a worker's counts on; what cannot be handed on is kept."""
    left = tally.take()
    try:
        for (beside, shadow), counts in tuple(left.items()):
            await ledger.add(beside, shadow, counts)
            del left[beside, shadow]
    finally:
        for pair, counts in left.items():
            tally.put_back(pair, counts)


def report_of(counts: Counts, top: int) -> ShadowReport:
    """Return the report made of counts."""
    whole = {reason: number for (subscription, reason), number in counts.items() if subscription == WHOLE}
    by_subscription: Counter[str] = Counter()
    for (subscription, _), number in counts.items():
        if subscription != WHOLE:
            by_subscription[subscription] += number
    return ShadowReport(
        requests=sum(whole.values()),
        refused={reason: number for reason, number in sorted(whole.items()) if reason != PASSED},
        subscriptions=dict(by_subscription.most_common(top)),
    )
