"""When tokens were last used: approximately, and cheaply.

A worker remembers which tokens it has seen and hands them on every minute, all in one call; the database
moves an instant forward at most once an hour. What is not handed on in time is lost: this is for people who
tidy up, not for billing.
"""

from collections.abc import Sequence
from typing import Protocol

MAXIMUM_TOKENS = 100_000


class LastUsedStore(Protocol):
    """Where it is kept."""

    async def note_used(self, tokens: Sequence[str]) -> None:
        """Note that these tokens were used about now; raise StoreUnavailableError when it cannot."""
        ...


class LastUsed:
    """The tokens one worker has seen since it last told."""

    def __init__(self) -> None:
        """Begin with none."""
        self._seen: set[str] = set()

    def note(self, token: str) -> None:
        """Remember that a token (its id) was used."""
        if len(self._seen) < MAXIMUM_TOKENS:
            self._seen.add(token)

    async def hand_on(self, store: LastUsedStore) -> None:
        """Tell `store`, and forget; what could not be told is remembered."""
        seen, self._seen = self._seen, set()
        if not seen:
            return
        try:
            await store.note_used(sorted(seen))
        except BaseException:
            self._seen |= seen
            raise
