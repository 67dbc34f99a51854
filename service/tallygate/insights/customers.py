"""Which customers are named in metrics: the busiest, the same in all workers of all replicas.

Each worker tells the shared ranks (`redis.py`) how many requests of whom it decided, and learns who is named. Use of
ten minutes ago weighs half. Who is named stays so until another is twice as busy, so that two who are about equal do
not take turns. While the ranks do not answer, who is named stays. Bounded. For one event loop.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Protocol

from tallygate.metrics import OTHER

_KNOWN = 10_000
"""Customers of whom a worker counts requests between two tellings; who comes later is met next time."""


class CustomerRanks(Protocol):
    """Where the requests of all workers are added up."""

    async def rank(self, requests: Mapping[str, int], most: int) -> frozenset[str]:
        """Add requests by customer and return who is named, `most` at most; raise DependencyError without an answer."""
        ...


class BusyCustomers:
    """What one worker knows: who is named, and who asked how much since it last told."""

    def __init__(self, most: int) -> None:
        """Name at most so many; begin with none."""
        self.named: frozenset[str] = frozenset()
        self._most = most
        self._requests: Counter[str] = Counter()

    def name(self, customer: str) -> str:
        """Count a request of a customer (its id), and return the name to count it under in metrics."""
        requests = self._requests
        if customer in requests or len(requests) < _KNOWN:
            requests[customer] += 1
        return customer if customer in self.named else OTHER

    async def rank(self, ranks: CustomerRanks) -> None:
        """Tell how busy whom was, and learn who is named; what cannot be told is left out."""
        requests, self._requests = self._requests, Counter()
        self.named = await ranks.rank(dict(requests.most_common(2 * self._most)), self._most)
