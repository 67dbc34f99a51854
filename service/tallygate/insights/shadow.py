"""Counting what a plan version in shadow would have refused, on live traffic.

A worker counts in memory and adds its counts to the shared ones once a second (`redis.py`); the report sums
all workers. Bounded: beyond `MAXIMUM_SUBSCRIPTIONS` per flush, refusals are counted without saying whose.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

MAXIMUM_SUBSCRIPTIONS = 10_000
PASSED = "ok"
_WHOLE = ""


@dataclass(frozen=True, slots=True)
class ShadowReport:
    """What a shadow has seen since it began: requests, refusals by reason, and the subscriptions refused most."""

    shadow: str
    requests: int
    refused: Mapping[str, int]
    subscriptions: Mapping[str, int]


class ShadowTally:
    """The counts of one worker since the last flush: (shadow, subscription or "", reason) → requests."""

    def __init__(self) -> None:
        """Begin with nothing counted."""
        self._counts: Counter[tuple[str, str, str]] = Counter()

    def count(self, shadow: str, subscription: str, refused_for: str | None) -> None:
        """Count one request that was allowed while `shadow` (`pro@4`) looked on."""
        self._counts[shadow, _WHOLE, refused_for or PASSED] += 1
        if refused_for is not None and len(self._counts) < MAXIMUM_SUBSCRIPTIONS:
            self._counts[shadow, subscription, refused_for] += 1

    def take(self) -> Counter[tuple[str, str, str]]:
        """Return what was counted and begin again."""
        counts, self._counts = self._counts, Counter()
        return counts

    def put_back(self, counts: Counter[tuple[str, str, str]]) -> None:
        """Count again what could not be handed on."""
        self._counts.update(counts)


class ShadowLedger(Protocol):
    """Where the counts of all workers are added up. Methods raise DependencyError when it does not answer."""

    async def add(self, counts: Counter[tuple[str, str, str]]) -> None:
        """Add a worker's counts."""
        ...

    async def report(self, shadow: str, top: int = 20) -> ShadowReport:
        """Return what was counted for a shadow, with the `top` subscriptions refused most."""
        ...

    async def forget(self, shadow: str) -> None:
        """Begin the counts of a shadow afresh."""
        ...


async def hand_on(tally: ShadowTally, ledger: ShadowLedger) -> None:
    """Hand a worker's counts on; what cannot be handed on is kept."""
    counts = tally.take()
    if not counts:
        return
    try:
        await ledger.add(counts)
    except BaseException:
        tally.put_back(counts)
        raise


def report_of(shadow: str, counts: Mapping[tuple[str, str], int], top: int) -> ShadowReport:
    """Return the report made of (subscription or "", reason) → requests."""
    whole = {reason: number for (subscription, reason), number in counts.items() if subscription == _WHOLE}
    by_subscription: Counter[str] = Counter()
    for (subscription, _), number in counts.items():
        if subscription != _WHOLE:
            by_subscription[subscription] += number
    return ShadowReport(
        shadow=shadow,
        requests=sum(whole.values()),
        refused={reason: number for reason, number in sorted(whole.items()) if reason != PASSED},
        subscriptions=dict(by_subscription.most_common(top)),
    )
