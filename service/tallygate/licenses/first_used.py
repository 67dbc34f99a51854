"""First uses on their way to the database: what the control plane must know of trials that begin with a request.

The counter store has the instant first, and this process hands it on, every few seconds: so `subscriptions
show` tells the truth, and a lost counter store begins no trial anew. The database keeps the least instant it
was ever told, so telling twice, late or out of order does no harm. Bounded; what finds no room is noted again
with the next request. What could not be told waits for the next time. For one event loop.
"""

from collections.abc import Collection, Mapping
from datetime import datetime
from itertools import islice
from typing import Protocol

MAXIMUM_SUBSCRIPTIONS = 100_000
AT_ONCE = 1_000
"""Instants told in one call, so that it stays well within its deadline."""


class FirstUseStore(Protocol):
    """Where it is kept."""

    async def note_first_uses(self, uses: Mapping[str, datetime]) -> Collection[str]:
        """Keep the least instant of each subscription (by its id); return those to be told again.

        Whoever works on a subscription just then is not waited for. Raises StoreUnavailableError.
        """
        ...


class FirstUses:
    """The first uses that one process knows of and the database may not."""

    def __init__(self) -> None:
        """Begin with none."""
        self._waiting: dict[str, datetime] = {}
        self._told: set[str] = set()

    def note(self, subscription: str, at: datetime) -> None:
        """Remember that a subscription was first used `at`, unless that has been told."""
        if subscription in self._told:
            return
        if subscription in self._waiting or len(self._waiting) < MAXIMUM_SUBSCRIPTIONS:
            self._waiting[subscription] = min(at, self._waiting.get(subscription, at))

    def settle(self, subscription: str) -> None:
        """Forget a subscription whose license has the instant; should it lose it (a restore), it is told again."""
        self._told.discard(subscription)

    async def hand_on(self, store: FirstUseStore) -> None:
        """Tell `store` of some; raise StoreUnavailableError when it cannot be told, and forget nothing."""
        telling = dict(islice(self._waiting.items(), AT_ONCE))
        if not telling:
            return
        again = await store.note_first_uses(telling)
        if len(self._told) >= MAXIMUM_SUBSCRIPTIONS:
            self._told.clear()
        for subscription, told_at in telling.items():
            at = self._waiting.pop(subscription)
            if subscription in again or at < told_at:
                self._waiting[subscription] = at
            else:
                self._told.add(subscription)
